// Rotary position embedding; the table's sine and cosine reduce and evaluate in double.
#include "rope.h"

#include <bit>
#include <cmath>

#include "elementwise.h"

namespace ithaca::cpu {
namespace {

struct SineCosine {
  double sine, cosine;
};

// For |x| < 2^31: the quadrant is taken off with pi/2 in two parts, the rest by Taylor series on [-pi/4, pi/4].
inline SineCosine sine_cosine(double x) {
  constexpr double kRound = 6755399441055744.0;  // 1.5 * 2^52
  const double shifted = x * 0.63661977236758134308 + kRound;
  const double n = shifted - kRound;
  const auto quadrant = static_cast<std::uint32_t>(std::bit_cast<std::uint64_t>(shifted));
  double r = std::fma(n, -1.5707963267948966, x);
  r = std::fma(n, -6.123233995736766e-17, r);
  const double z = r * r;
  double s = -7.6471637318198165e-13;
  s = s * z + 1.6059043836821613e-10;
  s = s * z - 2.5052108385441718e-8;
  s = s * z + 2.7557319223985893e-6;
  s = s * z - 1.9841269841269841e-4;
  s = s * z + 8.3333333333333332e-3;
  s = s * z - 1.6666666666666666e-1;
  s = s * z * r + r;
  double c = 4.7794773323873853e-14;
  c = c * z - 1.1470745597729725e-11;
  c = c * z + 2.0876756987868099e-9;
  c = c * z - 2.7557319223985888e-7;
  c = c * z + 2.4801587301587302e-5;
  c = c * z - 1.3888888888888889e-3;
  c = c * z + 4.1666666666666664e-2;
  c = c * z - 0.5;
  c = c * z + 1.0;
  const double sine = quadrant & 1u ? c : s;
  const double cosine = quadrant & 1u ? s : c;
  return {quadrant & 2u ? -sine : sine, (quadrant + 1u) & 2u ? -cosine : cosine};
}

}  // namespace

void rope_table(const std::int32_t* positions, const float* inv_freq, float* cos, float* sin, std::int64_t rows,
                std::int64_t half, float scaling) {
#pragma omp parallel for schedule(static)
  for (std::int64_t r = 0; r < rows; ++r) {
    const float position = static_cast<float>(positions[r]);
#pragma omp simd
    for (std::int64_t i = 0; i < half; ++i) {
      const SineCosine value = sine_cosine(static_cast<double>(position * inv_freq[i]));
      cos[r * half + i] = static_cast<float>(value.cosine) * scaling;
      sin[r * half + i] = static_cast<float>(value.sine) * scaling;
    }
  }
}

template <typename T>
void rope(const T* x, const float* cos, const float* sin, T* y, std::int64_t rows, std::int64_t heads,
          std::int64_t head_dim, bool inverse) {
  const std::int64_t half = head_dim / 2;
  const float direction = inverse ? -1.0f : 1.0f;
#pragma omp parallel for schedule(static)
  for (std::int64_t r = 0; r < rows; ++r) {
    const float* c = cos + r * half;
    const float* s = sin + r * half;
    for (std::int64_t h = 0; h < heads; ++h) {
      const T* from = x + (r * heads + h) * head_dim;
      T* to = y + (r * heads + h) * head_dim;
#pragma omp simd
      for (std::int64_t i = 0; i < half; ++i) {
        const float first = load(from + i);
        const float second = load(from + half + i);
        const float sine = s[i] * direction;
        store(to + i, first * c[i] - second * sine);
        store(to + half + i, second * c[i] + first * sine);
      }
    }
  }
}

template void rope(const float*, const float*, const float*, float*, std::int64_t, std::int64_t, std::int64_t, bool);
template void rope(const bf16*, const float*, const float*, bf16*, std::int64_t, std::int64_t, std::int64_t, bool);

}  // namespace ithaca::cpu
