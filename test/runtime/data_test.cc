// Token files: samples, labels, positions, segments, epochs, slices of ranks, and files that don't fit.
#include "ithaca/data.h"

#include <fstream>
#include <numeric>
#include <vector>

#include "check.h"
#include "ithaca/local_comm.h"
#include "toy_program.h"

using namespace ithaca;

namespace {

using Ints = std::vector<std::int32_t>;

template <typename T>
std::string write(const check::TemporaryDirectory& directory, const std::string& name, const std::vector<T>& values) {
  std::ofstream(directory / name, std::ios::binary)
      .write(reinterpret_cast<const char*>(values.data()), static_cast<std::streamsize>(values.size() * sizeof(T)));
  return directory / name;
}

struct Row {
  Ints input_ids, labels, position_ids, segments;
};

Row row(const TokenData& data, std::int64_t sample, std::int64_t begin, std::int64_t count) {
  Row r{Ints(count), Ints(count), Ints(count), Ints(count)};
  data.fill(sample, begin, count, r.input_ids.data(), r.labels.data(), r.position_ids.data(), r.segments.data());
  return r;
}

std::vector<std::uint32_t> count_up(int n) {
  std::vector<std::uint32_t> tokens(n);
  for (int i = 0; i < n; ++i) tokens[i] = i;
  return tokens;
}

void samples_without_documents() {
  const check::TemporaryDirectory directory;
  const TokenData data({write(directory, "tokens.bin", count_up(11)), 4, "", 4, 100});
  CHECK(data.tokens() == 11 && data.samples() == 2);
  const Row first = row(data, 0, 0, 4);
  CHECK((first.input_ids == Ints{0, 1, 2, 3}) && (first.labels == Ints{1, 2, 3, -100}));
  CHECK((first.position_ids == Ints{0, 1, 2, 3}) && (first.segments == Ints{0, 0, 0, 0}));
  CHECK((row(data, 1, 0, 4).input_ids == Ints{4, 5, 6, 7}));
  CHECK((row(data, 2, 0, 4).input_ids == Ints{0, 1, 2, 3}));  // a new epoch; tokens 8 to 10 make no sample
  const Row part = row(data, 1, 1, 2);
  CHECK((part.input_ids == Ints{5, 6}) && (part.labels == Ints{6, 7}) && (part.position_ids == Ints{1, 2}));
}

void samples_with_documents() {
  const check::TemporaryDirectory directory;
  const std::string tokens = write(directory, "tokens.bin", count_up(16));
  // Documents 0-2, 3-9, an empty one at 10, 10-15; the last entry says where the file ends.
  const std::string documents = write<std::uint64_t>(directory, "docs.bin", {0, 3, 10, 10, 16});
  const TokenData data({tokens, 4, documents, 8, 100});
  const Row first = row(data, 0, 0, 8);
  CHECK((first.labels == Ints{1, 2, -100, 4, 5, 6, 7, -100}));
  CHECK((first.position_ids == Ints{0, 1, 2, 0, 1, 2, 3, 4}));
  CHECK((first.segments == Ints{0, 0, 0, 1, 1, 1, 1, 1}));
  const Row second = row(data, 1, 0, 8);  // tokens 8 and 9 go on from the document before; positions start at 0
  CHECK((second.labels == Ints{9, -100, 11, 12, 13, 14, 15, -100}));
  CHECK((second.position_ids == Ints{0, 1, 0, 1, 2, 3, 4, 5}));
  CHECK((second.segments == Ints{0, 0, 1, 1, 1, 1, 1, 1}));
  // Every slice is the part of the whole.
  for (int begin = 0; begin < 8; ++begin) {
    for (int count = 1; begin + count <= 8; ++count) {
      const Row part = row(data, 1, begin, count);
      const auto same = [&](const Ints& piece, const Ints& whole) {
        return std::equal(piece.begin(), piece.end(), whole.begin() + begin);
      };
      CHECK(same(part.input_ids, second.input_ids) && same(part.labels, second.labels));
      CHECK(same(part.position_ids, second.position_ids) && same(part.segments, second.segments));
    }
  }
}

void ranks_fill_their_shares() {
  const check::TemporaryDirectory directory;
  const TokenData data({write(directory, "tokens.bin", count_up(90)), 4, "", toy::kSequence, 100});  // 11 samples
  const auto inputs = [&](int dp, int sp, std::int64_t first) {
    const std::int64_t batch = toy::kBatch * toy::kSequence;
    Ints global(toy::kMicroBatches * batch, -1);
    const ProgramSpec& spec = toy::program(dp, sp);
    for (int rank = 0; rank < dp * sp; ++rank) {
      const Mesh mesh(spec.axes, spec.num_axes);
      LocalWorld world(dp * sp);
      Executor executor(spec, rank, 1, world.join_axes(rank, mesh));
      CHECK(samples_per_step(executor) == 8);
      fill_inputs(executor, data, first);
      const TensorSpec& ids = executor.tensor("input_ids");
      const Share share = executor.share(ids);
      const auto* at = reinterpret_cast<const std::int32_t*>(executor.data(ids));
      for (int micro = 0; micro < toy::kMicroBatches; ++micro) {
        for_each_run(share, [&](std::int64_t to, std::int64_t from, std::int64_t count) {
          std::copy_n(at + micro * share.elements() + from, count, global.begin() + micro * batch + to);
        });
      }
    }
    return global;
  };
  const Ints first = inputs(1, 1, 0);
  for (int i = 0; i < 64; ++i) CHECK(first[i] == i);
  const Ints second = inputs(1, 1, 8);  // samples 8, 9, 10, then 0 again
  CHECK(second[0] == 64 && second[23] == 87 && second[24] == 0);
  for (const auto& [dp, sp] : {std::pair{2, 1}, {1, 2}, {2, 2}}) CHECK(inputs(dp, sp, 8) == second);
}

void files_that_do_not_fit() {
  const check::TemporaryDirectory directory;
  const auto open = [](const std::string& path, int bytes, const std::string& documents = "") {
    return TokenData({path, bytes, documents, 4, 10});
  };
  const std::string good = write(directory, "good.bin", count_up(8));
  CHECK_THROWS(open(directory / "missing.bin", 4), "can't read");
  CHECK_THROWS(open(directory.path.string(), 4), "Is a directory");
  CHECK_THROWS(open(write<std::uint8_t>(directory, "empty.bin", {}), 4), "is empty");
  CHECK_THROWS(open(write<std::uint8_t>(directory, "odd.bin", {1, 2, 3, 4, 5}), 4),
               "has 5 bytes, no multiple of the 4");
  CHECK_THROWS(open(write(directory, "short.bin", count_up(3)), 4), "has 3 tokens, a sample needs 4");
  CHECK_THROWS(open(good, 4, write<std::uint64_t>(directory, "d1", {0, 9})), "starts at token 9");
  CHECK_THROWS(open(good, 4, write<std::uint64_t>(directory, "d2", {0, 5, 3})),
               "document 2 starts at token 3, the one before it at 5");
  CHECK_THROWS(open(good, 4, write<std::uint8_t>(directory, "d3", {0, 0, 0})), "has 3 bytes, no multiple of the 8");

  const TokenData large({write<std::uint16_t>(directory, "large.bin", {1, 2, 3, 4, 5, 65535, 7, 8}), 2, "", 4, 10});
  CHECK((row(large, 0, 0, 4).input_ids == Ints{1, 2, 3, 4}));
  const char* message = "token 5 is 65535, the vocabulary has 10";
  CHECK_THROWS(row(large, 1, 0, 4), message);
  CHECK_THROWS(row(large, 1, 0, 1), message);  // as a label, before it is an input
  large.check(0, 1);
  CHECK_THROWS(large.check(0, 100), message);
  // A uint32 beyond 2^31 must not look like a negative, small number.
  CHECK_THROWS(row(open(write<std::uint32_t>(directory, "huge.bin", {4294967295u, 0, 0, 0}), 4), 0, 0, 4),
               "token 0 is 4294967295");
}

void steps_without_labels() {
  const check::TemporaryDirectory directory;
  const std::string tokens = write(directory, "tokens.bin", count_up(16));
  // Samples of 4: one document; four of one token and one of none; two of two tokens; four of one token.
  const std::string starts = write<std::uint64_t>(directory, "docs", {0, 4, 5, 5, 6, 7, 8, 10, 12, 13, 14, 15});
  const TokenData data({tokens, 4, starts, 4, 100});
  data.check_labels(1, 0, 1, 1);
  data.check_labels(1, 2, 1, 1);
  data.check_labels(1, 0, 8, 2);
  CHECK_THROWS(data.check_labels(1, 0, 2, 1), "step 2 has nothing to learn from: sample 1 has no labelled token");
  CHECK_THROWS(data.check_labels(7, 2, 2, 1), "step 8 has nothing to learn from: sample 3 has");
  CHECK_THROWS(data.check_labels(1, 1, 1, 1), "From token 4 of");
  // The steps of 3 samples take 0 1 2, 3 0 1, 2 3 0, 1 2 3: each has a label.
  data.check_labels(1, 0, 100, 3);
  std::vector<std::uint64_t> every(16);
  std::iota(every.begin(), every.end(), 0);
  const TokenData ones({tokens, 4, write(directory, "ones", every), 4, 100});
  CHECK_THROWS(ones.check_labels(1, 0, 5, 3), "step 1 has nothing to learn from: 3 samples from sample 0 have");
  const TokenData whole({tokens, 4, "", 4, 100});
  whole.check_labels(1, 0, 100, 1);
}

}  // namespace

int main() {
  samples_without_documents();
  samples_with_documents();
  ranks_fill_their_shares();
  files_that_do_not_fit();
  steps_without_labels();
  return check::result("data_test");
}
