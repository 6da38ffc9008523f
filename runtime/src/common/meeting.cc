// The variables of mpirun, srun and torchrun, and where ranks meet by them.
#include <cstdlib>
#include <optional>

#include "ithaca/error.h"
#include "ithaca/tcp_world.h"

namespace ithaca {

namespace {

std::string text_of(const char* name) {
  const char* value = std::getenv(name);
  return value ? value : "";
}

std::optional<int> number_of(const char* name) {
  const std::string text = text_of(name);
  if (text.empty() || text.size() > 9 || text.find_first_not_of("0123456789") != std::string::npos) return {};
  return std::stoi(text);
}

struct Launcher {
  const char* rank;
  const char* ranks;
  const char* number;  // among those of the machine
  const char* job;     // what tells jobs on one machine apart
};

constexpr Launcher kLaunchers[] = {
    {"OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_LOCAL_RANK", "OMPI_MCA_ess_base_jobid"},
    {"SLURM_PROCID", "SLURM_STEP_NUM_TASKS", "SLURM_LOCALID", "SLURM_JOB_ID"},
    {"RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_PORT"},
};

// The launcher that has started `ranks` processes: others may have left their variables, as Slurm does in a batch script.
const Launcher* launcher_of(int ranks) {
  for (const Launcher& launcher : kLaunchers) {
    const auto rank = number_of(launcher.rank);
    const auto size = number_of(launcher.ranks);
    if (rank && size && *size == ranks && *rank < ranks) return &launcher;
  }
  return nullptr;
}

// "node3" of "node[3-5,9],login1".
std::string first_host(const std::string& list) {
  const std::size_t end = list.find_first_of("[,");
  if (end == std::string::npos || list[end] == ',') return list.substr(0, end);
  const std::size_t number_end = list.find_first_of("-,]", end);
  return list.substr(0, end) + list.substr(end + 1, number_end - end - 1);
}

bool are_all_here() {
  const auto ranks = text_of("OMPI_COMM_WORLD_SIZE");
  return !ranks.empty() && ranks == text_of("OMPI_COMM_WORLD_LOCAL_SIZE");
}

void find_place(Meeting& meeting, const Launcher& launcher) {
  const std::string id = text_of("NCCL_COMM_ID");
  meeting.address = text_of("MASTER_ADDR");
  meeting.port = number_of("MASTER_PORT").value_or(0);
  // torchrun's agent listens on MASTER_PORT itself.
  if (text_of("TORCHELASTIC_USE_AGENT_STORE") == "True" && meeting.port > 0) ++meeting.port;
  if (meeting.address.empty() && id.find(':') != std::string::npos) {
    meeting.address = id.substr(0, id.rfind(':'));
    meeting.port = std::atoi(id.c_str() + id.rfind(':') + 1);
  }
  if (meeting.address.empty()) {
    meeting.address = first_host(text_of("SLURM_STEP_NODELIST"));
    if (meeting.address.empty() && are_all_here()) meeting.address = "127.0.0.1";
  }
  if (meeting.port == 0 && number_of(launcher.job)) meeting.port = 20000 + *number_of(launcher.job) % 10000;
  if (meeting.address.empty() || meeting.port <= 0 || meeting.port > 65535) {
    throw Error("the ranks don't know where to meet; set MASTER_ADDR to the machine of rank 0 and MASTER_PORT to a port "
                "that is free there");
  }
}

}  // namespace

Meeting read_meeting(int ranks) {
  if (const Launcher* launcher = launcher_of(ranks)) {
    Meeting meeting{*number_of(launcher->rank), ranks, "", 0};
    find_place(meeting, *launcher);
    return meeting;
  }
  std::string found;
  for (const Launcher& launcher : kLaunchers) {
    const auto size = number_of(launcher.ranks);
    if (!size || !number_of(launcher.rank)) continue;
    found += (found.empty() ? "" : ", ") + std::string(launcher.ranks) + "=" + std::to_string(*size);
  }
  throw Error("the program was compiled for " + std::to_string(ranks) + " ranks, and " +
              (found.empty() ? "no launcher's variables are set" : found + " is set") +
              "; start it with ithaca train, torchrun, srun or mpirun, one process for each rank, or set RANK, "
              "WORLD_SIZE, MASTER_ADDR and MASTER_PORT");
}

std::optional<int> number_on_machine(int ranks) {
  const Launcher* launcher = launcher_of(ranks);
  return launcher ? number_of(launcher->number) : std::nullopt;
}

}  // namespace ithaca
