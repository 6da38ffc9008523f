// The watchdog: tells a rank that hangs from one that is busy, reads, or was stopped together with all others.
#include "ithaca/watchdog.h"

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>

#include "check.h"
#include "ithaca/checkpoint.h"
#include "ithaca/local_comm.h"
#include "toy_program.h"

using namespace ithaca;

namespace {

using namespace std::chrono_literals;

constexpr Watchdog::Patience kShort{400ms, 300ms, 50ms};

// Two ranks of the toy, stepped once under a watchdog. Returns what it said: it ends the process with that, so a child of
// this process does it.
std::string said_of(const toy::Faults& faults, Watchdog::Patience patience = kShort,
                    const std::function<void(pid_t)>& meanwhile = [](pid_t) {}) {
  int ends[2];
  CHECK(pipe(ends) == 0);
  const pid_t child = fork();
  if (child == 0) {
    toy::faults = faults;
    const ProgramSpec& spec = toy::program(1, 2);
    const Mesh mesh(spec.axes, spec.num_axes);
    LocalWorld world(2);
    Watchdog watchdog(world, [&](const std::string& why) {
      CHECK(write(ends[1], why.data(), why.size()) == static_cast<ssize_t>(why.size()));
      _exit(1);
    }, patience);
    std::vector<std::thread> threads;
    for (int rank : {0, 1}) {
      threads.emplace_back([&, rank] {
        Executor executor(spec, rank, 1, world.join_axes(rank, mesh));
        const Watchdog::Watch watch(watchdog, executor);
        try {
          executor.step();
        } catch (const std::exception&) {
        }
      });
    }
    for (std::thread& thread : threads) thread.join();
    _exit(0);
  }
  close(ends[1]);
  meanwhile(child);
  std::string said;
  char buffer[4096];
  for (ssize_t n; (n = read(ends[0], buffer, sizeof buffer)) > 0;) said.append(buffer, n);
  close(ends[0]);
  int status = 0;
  waitpid(child, &status, 0);
  CHECK(WIFEXITED(status) && WEXITSTATUS(status) == (said.empty() ? 0 : 1));
  return said;
}

void a_rank_that_hangs() {
  toy::Faults faults;
  faults.hang_rank = 1;
  const std::string said = said_of(faults);
  CHECK(said.starts_with("rank 1, lane compute, step 1 (update): hangs: it has used no processor time for 0 s"));
  CHECK(said.ends_with("others wait for it: rank 0, lane compute, step 1 (update)"));
}

void ranks_that_are_well() {
  CHECK(said_of({}).empty());
  toy::Faults busy;
  busy.busy_rank = 0;
  busy.busy_ms = 1500;
  CHECK(said_of(busy).empty());
  toy::Faults slow;
  slow.sleep_ms = 200;
  CHECK(said_of(slow).empty());
}

void ranks_that_fail_and_can_not_end() {
  toy::Faults faults;
  faults.fail_rank = 0;
  faults.hang_rank = 1;
  CHECK(said_of(faults, {10000ms, 300ms, 50ms}) ==
        "rank 0, lane compute, step 1 (update): the toy was told to fail");
}

void a_process_that_was_stopped_as_a_whole() {
  toy::Faults slow;
  slow.sleep_ms = 700;
  const auto stop = [](pid_t child) {
    std::this_thread::sleep_for(200ms);
    kill(child, SIGSTOP);
    std::this_thread::sleep_for(1500ms);
    kill(child, SIGCONT);
  };
  CHECK(said_of(slow, {1200ms, 300ms, 50ms}, stop).empty());
}

}  // namespace

int main() {
  a_rank_that_hangs();
  ranks_that_are_well();
  ranks_that_fail_and_can_not_end();
  a_process_that_was_stopped_as_a_whole();
  return check::result("watchdog_test");
}
