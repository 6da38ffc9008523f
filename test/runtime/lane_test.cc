// Lanes run jobs in order; events order lanes, count through loops, and wake everyone when something fails.
#include "ithaca/lane.h"

#include <omp.h>

#include <atomic>
#include <chrono>
#include <vector>

#include "check.h"

using namespace ithaca;

namespace {

void jobs_run_in_order() {
  Lane lane("test", 2);
  std::vector<int> order;
  std::vector<std::future<void>> done;
  for (int i = 0; i < 100; ++i) done.push_back(lane.submit([&order, i] { order.push_back(i); }));
  for (auto& job : done) job.get();
  CHECK(order.size() == 100 && order[0] == 0 && order[99] == 99);
  int threads = 0;
  lane.submit([&] { threads = omp_get_max_threads(); }).get();
  CHECK(threads == 2);
  CHECK_THROWS(lane.submit([] { throw Error("broken"); }).get(), "broken");
  lane.submit([&] { order.clear(); }).get();
  CHECK(order.empty());
}

void a_lane_finishes_its_jobs_before_it_ends() {
  std::atomic<int> ran{0};
  {
    Lane lane("test", 1);
    for (int i = 0; i < 10; ++i) lane.submit([&] { ++ran; });
  }
  CHECK(ran == 10);
}

// A ring of two: the producer may be one turn ahead at most.
void events_count_through_loops() {
  constexpr int kTurns = 20000;
  Event full;
  Event empty;
  int slot = -1;
  bool right = true;
  Lane producer("producer", 1);
  Lane consumer("consumer", 1);
  for (int step = 0; step < 3; ++step) {
    full.reset();
    empty.reset();
    auto produced = producer.submit([&] {
      for (int i = 0; i < kTurns; ++i) {
        empty.wait(i);
        slot = i;
        full.signal();
      }
    });
    auto consumed = consumer.submit([&] {
      for (int i = 0; i < kTurns; ++i) {
        full.wait(i + 1);
        right = right && slot == i;
        empty.signal();
      }
    });
    produced.get();
    consumed.get();
  }
  CHECK(right);
}

void several_lanes_wait_for_one_signal() {
  Event event;
  Lane first("first", 1);
  Lane second("second", 1);
  std::atomic<int> seen{0};
  const auto wait_twice = [&] {
    event.wait(1);
    ++seen;
    event.wait(2);
    ++seen;
  };
  auto a = first.submit(wait_twice);
  auto b = second.submit(wait_twice);
  event.signal();
  event.signal();
  a.get();
  b.get();
  CHECK(seen == 4);
}

void an_abort_wakes_every_waiter() {
  Event event;
  Lane first("first", 1);
  Lane second("second", 1);
  auto a = first.submit([&] { event.wait(1); });
  auto b = second.submit([&] { event.wait(1); });
  std::this_thread::sleep_for(std::chrono::milliseconds(20));
  event.abort();
  CHECK_THROWS(a.get(), "another lane failed");
  CHECK_THROWS(b.get(), "another lane failed");
  CHECK_THROWS(event.wait(1), "another lane failed");
  event.signal();
  CHECK_THROWS(event.wait(1), "another lane failed");
}

}  // namespace

int main() {
  jobs_run_in_order();
  a_lane_finishes_its_jobs_before_it_ends();
  events_count_through_loops();
  several_lanes_wait_for_one_signal();
  an_abort_wakes_every_waiter();
  return check::result("lane_test");
}
