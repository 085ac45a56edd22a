/* SPDX-License-Identifier: MIT-0 */
/*
 * maintenance-window - while a window is open only some users may publish
 *
 *	grapnelctl maintenance on 1800		for half an hour
 *	grapnelctl maintenance off
 *	grapnelctl maintenance status
 *
 * or a message "on 1800" or "off" on control_topic, if one is set. The end of a window is kept as a value of the instance: it
 * survives a restart, and the answer to the command comes when that is sure.
 *
 * Threads:   `until_us` is read by hooks on all workers; the rest of a window (timer, value, notice, commands that wait) is
 *            worker 0's. A command comes on the main thread and is posted there.
 * Ownership: what waits for the disk is in `waiting`; destructors free all else. A posted call owns its command, and runs before
 *            worker_stop.
 * Bounded:   WAITING_MAX commands; a window by max_duration.
 *
 * No exception leaves this file: everything that the host calls goes through guarded().
 */
#include <grapnel/plugin.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <charconv>
#include <list>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace {

constexpr size_t WAITING_MAX = 100;
constexpr std::string_view KEY = "until_us";
constexpr int64_t SECOND_US = 1000000;

std::string_view view(grapnel_str s)
{
	return s.data != nullptr ? std::string_view(s.data, s.len) : std::string_view();
}

grapnel_str str(std::string_view v)
{
	return { v.data(), v.size() };
}

/* The C code that calls us knows no exceptions: one that gets there ends the broker. */
template <typename Result, typename Function> Result guarded(Result otherwise, Function &&function) noexcept
{
	try {
		return function();
	} catch (...) {
		return otherwise;
	}
}

template <typename Function> void guarded(Function &&function) noexcept
{
	try {
		function();
	} catch (...) {
	}
}

std::optional<int64_t> number(std::string_view text)
{
	int64_t n = 0;
	auto [end, err] = std::from_chars(text.data(), text.data() + text.size(), n);

	if (err != std::errc() || end != text.data() + text.size() || n < 0)
		return std::nullopt;
	return n;
}

/* RAII for what the host lends. */
struct TimerFree {
	const grapnel_host *host;
	void operator()(grapnel_timer *t) const { host->timer_free(t); }
};
using Timer = std::unique_ptr<grapnel_timer, TimerFree>;

struct Unsubscribe {
	const grapnel_host *host;
	void operator()(grapnel_sub *s) const { host->unsubscribe(s); }
};
using Subscription = std::unique_ptr<grapnel_sub, Unsubscribe>;

/* Somebody who waits for an answer to a command: gets one, whatever becomes of it. */
class Reply {
public:
	using Function = void (*)(void *ctx, grapnel_str json);

	Reply(Function function, void *ctx) : function_(function), ctx_(ctx) {}
	Reply(const Reply &) = delete;
	Reply &operator=(const Reply &) = delete;
	~Reply() { answer(R"({"error": "the plugin is being replaced; ask again"})"); }

	void answer(std::string_view json)
	{
		if (function_ != nullptr)
			function_(ctx_, str(json));
		function_ = nullptr;
	}

private:
	Function function_;
	void *ctx_;
};

class Window {
public:
	Window(const grapnel_host *host, grapnel_instance *self);

	int worker_start(unsigned worker);
	void worker_stop(unsigned worker);
	grapnel_verdict publish(grapnel_request *req, const grapnel_message_publish *q);
	int command(const grapnel_command *command, Reply::Function reply, void *ctx);

private:
	/* What is to be done on worker 0. */
	struct Order {
		Window *window;
		std::optional<int64_t> seconds; /* 0: off; absent: only say what there is */
		std::unique_ptr<Reply> reply;	/* null: nobody waits */
	};
	/* What waits until it is on the disk. */
	struct Waiting {
		Window *window;
		std::unique_ptr<Reply> reply;
		std::list<Waiting>::iterator place;
	};

	static std::optional<int64_t> parse(std::string_view verb, std::string_view seconds, bool &good);
	void carry_out(Order &order);
	void set(int64_t seconds);
	int begin();
	void arm();
	void on_timer();
	void on_message(const grapnel_message_info *message);
	void notice(bool open);
	int64_t load() const;
	bool open() const { return until_us_.load(std::memory_order_relaxed) > host_->wall_us(); }
	std::string status() const;

	const grapnel_host *host_;
	grapnel_instance *self_;
	std::vector<std::string> allowed_;
	std::string control_topic_, notice_topic_;
	int64_t max_seconds_;
	int metric_refused_;
	std::atomic<int64_t> until_us_{ 0 };
	/* worker 0's */
	Timer timer_;
	Subscription control_;
	std::list<Waiting> waiting_;
};

Window::Window(const grapnel_host *host, grapnel_instance *self)
    : host_(host),
      self_(self),
      control_topic_(view(host->option_str(self, nullptr, "control_topic"))),
      notice_topic_(view(host->option_str(self, nullptr, "notice_topic"))),
      max_seconds_(host->option_int(self, nullptr, "max_duration") / 1000),
      metric_refused_(host->metric_new(self, GRAPNEL_COUNTER, "refused_total", "Messages that came in a window.")),
      timer_(nullptr, TimerFree{ host }),
      control_(nullptr, Unsubscribe{ host })
{
	for (size_t i = 0;; i++) {
		grapnel_str name = host->option_list(self, nullptr, "allow", i);

		if (name.data == nullptr)
			break;
		allowed_.emplace_back(view(name));
	}
	std::sort(allowed_.begin(), allowed_.end());
	until_us_ = load();
}

/* 0 when there is no value, or one that makes no sense: whatever had our name before may have left it. */
int64_t Window::load() const
{
	std::array<char, 32> buffer;
	size_t len = 0;

	if (host_->value_get(self_, str(KEY), buffer.data(), buffer.size(), &len) != GRAPNEL_OK || len > buffer.size())
		return 0;
	return number(std::string_view(buffer.data(), len)).value_or(0);
}

/* Where it fails, worker_stop is not called: what there is goes here, as the destructor runs on another thread, and too late. */
int Window::worker_start(unsigned worker)
{
	int err = worker == 0 ? begin() : GRAPNEL_OK;

	if (err != GRAPNEL_OK)
		worker_stop(worker);
	return err;
}

int Window::begin()
{
	timer_.reset(host_->timer_new(
	    self_, [](void *w) { guarded([w] { static_cast<Window *>(w)->on_timer(); }); }, this));
	if (!timer_)
		return GRAPNEL_ENOMEM;
	if (!control_topic_.empty()) {
		control_.reset(host_->subscribe(
		    self_, str(control_topic_),
		    [](void *w, const grapnel_message_info *m) { guarded([w, m] { static_cast<Window *>(w)->on_message(m); }); },
		    this));
		if (!control_)
			return GRAPNEL_ENOMEM;
	}
	/* The instance before this one may have been told something since create(). */
	until_us_ = load();
	arm();
	return GRAPNEL_OK;
}

/* What is of a worker goes here, not in the destructor, which runs on the main thread. */
void Window::worker_stop(unsigned worker)
{
	if (worker != 0)
		return;
	waiting_.clear();
	control_.reset();
	timer_.reset();
}

grapnel_verdict Window::publish(grapnel_request *req, const grapnel_message_publish *q)
{
	static constexpr std::string_view reason = "maintenance: nothing is accepted at the moment";
	grapnel_publish_answer answer = {};

	if (!open() || std::binary_search(allowed_.begin(), allowed_.end(), view(q->client->username)))
		return GRAPNEL_NEXT;
	host_->metric_add(self_, metric_refused_, 1);
	answer.size = sizeof(answer);
	answer.reason_string = str(reason);
	return host_->publish_answer(req, &answer) == GRAPNEL_OK ? GRAPNEL_DENY : GRAPNEL_UNAVAILABLE;
}

/* good is false when it is none of "on SECONDS", "off" and "status". */
std::optional<int64_t> Window::parse(std::string_view verb, std::string_view seconds, bool &good)
{
	good = true;
	if (verb == "off" && seconds.empty())
		return 0;
	if (verb == "status" && seconds.empty())
		return std::nullopt;
	if (std::optional<int64_t> n; verb == "on" && (n = number(seconds)) && *n > 0)
		return n;
	good = false;
	return std::nullopt;
}

int Window::command(const grapnel_command *command, Reply::Function reply, void *ctx)
{
	bool good = false;
	std::string_view verb, seconds;

	if (command->argument_count >= 1 && command->argument_count <= 2)
		verb = view(command->arguments[0]);
	if (command->argument_count == 2)
		seconds = view(command->arguments[1]);
	auto order = std::make_unique<Order>(Order{ this, parse(verb, seconds, good), std::make_unique<Reply>(reply, ctx) });
	if (!good) {
		order->reply->answer(R"({"error": "usage: maintenance on SECONDS | off | status"})");
		return GRAPNEL_EINVAL;
	}
	int err = host_->post(
	    self_, 0,
	    [](void *o) {
		    std::unique_ptr<Order> owned(static_cast<Order *>(o));
		    guarded([&owned] { owned->window->carry_out(*owned); });
	    },
	    order.get());
	if (err != GRAPNEL_OK)
		return err;
	static_cast<void>(order.release()); /* the posted call has it now */
	return GRAPNEL_COMMAND_LATER;
}

void Window::carry_out(Order &order)
{
	if (!order.seconds) {
		order.reply->answer(status());
		return;
	}
	if (waiting_.size() >= WAITING_MAX) {
		order.reply->answer(R"({"error": "too many commands wait for the disk"})");
		return;
	}
	set(*order.seconds);
	waiting_.push_back({ this, std::move(order.reply), {} });
	waiting_.back().place = std::prev(waiting_.end());
	int err = host_->value_sync(
	    self_,
	    [](void *arg) {
		    auto *w = static_cast<Waiting *>(arg);
		    Window *window = w->window;
		    guarded([w, window] { w->reply->answer(window->status()); });
		    window->waiting_.erase(w->place);
	    },
	    &waiting_.back());
	if (err != GRAPNEL_OK)
		waiting_.pop_back();
}

void Window::set(int64_t seconds)
{
	int64_t until = seconds > 0 ? host_->wall_us() + std::min(seconds, max_seconds_) * SECOND_US : 0;
	std::string text = std::to_string(until);

	until_us_ = until;
	if (host_->value_set(self_, str(KEY), str(text)) != GRAPNEL_OK)
		host_->log(self_, GRAPNEL_LOG_WARNING, "the window is not kept: it would be gone after a restart");
	arm();
	notice(until != 0);
}

/* By the wall clock, as a restart knows no other; looked at once a minute, since that can be set. */
void Window::arm()
{
	int64_t left_ms = (until_us_ - host_->wall_us()) / 1000 + 1;

	if (until_us_ != 0)
		host_->timer_arm(timer_.get(), static_cast<uint32_t>(std::clamp<int64_t>(left_ms, 1, 60000)));
	else
		host_->timer_disarm(timer_.get());
}

void Window::on_timer()
{
	if (open()) {
		arm();
		return;
	}
	set(0);
}

/* Who may publish there is for the ACL to say. */
void Window::on_message(const grapnel_message_info *message)
{
	std::string_view text = view(message->payload);
	size_t blank = std::min(text.find(' '), text.size());
	std::string_view rest = blank < text.size() ? text.substr(blank + 1) : std::string_view();
	bool good = false;
	std::optional<int64_t> seconds = parse(text.substr(0, blank), rest, good);

	if (!good)
		host_->log(self_, GRAPNEL_LOG_WARNING, "a message on %s is neither \"on SECONDS\" nor \"off\"", control_topic_.c_str());
	else if (seconds)
		set(*seconds);
}

void Window::notice(bool open)
{
	grapnel_publication p = {};

	if (notice_topic_.empty())
		return;
	p.size = sizeof(p);
	p.topic_name = str(notice_topic_);
	p.payload = str(open ? std::string_view("on") : std::string_view("off"));
	p.retain = true;
	static_cast<void>(host_->publish(self_, &p));
}

std::string Window::status() const
{
	int64_t left = (until_us_ - host_->wall_us() + SECOND_US - 1) / SECOND_US;

	if (!open())
		return R"({"maintenance": false})";
	return R"({"maintenance": true, "seconds_left": )" + std::to_string(left) + "}";
}

/* -------------------------------------------------------------------- what the host calls */

int create(const grapnel_host *host, grapnel_instance *self, void **instance)
{
	return guarded<int>(GRAPNEL_ENOMEM, [&] {
		auto window = std::make_unique<Window>(host, self);
		int err = host->command_new(
		    self, "maintenance", "on SECONDS | off | status: a time in which only some may publish",
		    [](void *w, const grapnel_command *command, Reply::Function reply, void *ctx) {
			    return guarded<int>(
				GRAPNEL_ENOMEM, [&] { return static_cast<Window *>(w)->command(command, reply, ctx); });
		    },
		    window.get());

		if (err == GRAPNEL_OK)
			*instance = window.release();
		return err;
	});
}

void destroy(void *instance)
{
	delete static_cast<Window *>(instance);
}

int worker_start(void *instance, unsigned worker)
{
	return guarded<int>(GRAPNEL_ENOMEM, [=] { return static_cast<Window *>(instance)->worker_start(worker); });
}

void worker_stop(void *instance, unsigned worker)
{
	guarded([=] { static_cast<Window *>(instance)->worker_stop(worker); });
}

grapnel_verdict message_publish(void *instance, grapnel_request *req, const grapnel_message_publish *q)
{
	return guarded(GRAPNEL_UNAVAILABLE, [=] { return static_cast<Window *>(instance)->publish(req, q); });
}

constexpr grapnel_option option(const char *name, grapnel_option_type type, const char *default_value, int64_t max, const char *help)
{
	return { name, type, 0, default_value, 0, max, nullptr, nullptr, help, {} };
}

constexpr grapnel_option options[] = {
	option("allow", GRAPNEL_OPTION_LIST, nullptr, 0, "User names that may publish all the same."),
	option("control_topic", GRAPNEL_OPTION_STRING, "\"\"", 0, "Topic of messages that open and close the window; none when empty."),
	option("max_duration", GRAPNEL_OPTION_DURATION, "4h", 86400000, "Longest window, whatever is asked for."),
	option("notice_topic", GRAPNEL_OPTION_STRING, "\"\"", 0, "Topic of a retained message, on or off; none when empty."),
	{},
};

/* C++17 has no designated initialisers. A constant all the same: loading a plugin runs none of its code. */
constexpr grapnel_plugin descriptor()
{
	grapnel_plugin p = {};

	p.magic = GRAPNEL_PLUGIN_MAGIC;
	p.abi_major = GRAPNEL_ABI_MAJOR;
	p.abi_minor = GRAPNEL_ABI_MINOR;
	p.size = sizeof(p);
	p.name = "maintenance_window";
	p.version = "1.0";
	p.license = "MIT-0";
	p.description = "Refuses messages while maintenance is under way";
	p.options = options;
	p.create = create;
	p.destroy = destroy;
	p.worker_start = worker_start;
	p.worker_stop = worker_stop;
	p.message_publish = message_publish;
	return p;
}

} // namespace

extern "C" {
extern GRAPNEL_EXPORT const struct grapnel_plugin grapnel_plugin;
constexpr struct grapnel_plugin grapnel_plugin = descriptor();
}
