/**
 * @file The machines that `ithaca plan --machine` knows: one table of capacities, rates and the share of them that is reached.
 *
 * Capacities are what a program can get, not what is on the box. Rates are the data sheet's; `efficiency` says what
 * published measurements reach of them. Every number has its source beside it.
 */

const GiB = 2 ** 30;
const TFLOPS = 1e12;
const GBs = 1e9;

/** Parts of a peak that real kernels reach, between 0 and 1. */
export interface Efficiency {
  /** Matrix products, of the peak of their element type. */
  readonly matmul: number;
  readonly attention: number;
  readonly attentionGrad: number;
  /** Everything that is bound by device memory, of its bandwidth. */
  readonly memory: number;
}

export interface Machine {
  readonly name: string;
  /** Bytes of one GPU as CUDA reports its total: less than on the box. */
  readonly deviceBytes: number;
  /** Bytes of host memory of one node. */
  readonly hostBytes: number;
  readonly gpusPerNode: number;
  /** Dense FLOP/s of one GPU. */
  readonly peakFlops: { readonly bf16: number; readonly f32: number };
  /** Bytes per second that one GPU reads and writes of its own memory. */
  readonly deviceBandwidth: number;
  /** Bytes per second between one GPU and host memory, each way. */
  readonly hostLink: number;
  /** Bytes per second between host memory and a rank's file, each way. */
  readonly fileLink: number;
  /** Bytes per second that one GPU sends to the others of its node in a collective. */
  readonly nodeLink: number;
  /** Bytes per second that one GPU sends to other nodes. */
  readonly network: number;
  readonly efficiency: Efficiency;
}

/**
 * Of H100: products reach 720 of 989 TFLOP/s in shapes of a layer (794 at best: ml-engineering, MAMF); cuDNN 9 attention,
 * causal, head size 128: 539 forward and 516 backward (Shah et al. 2024, FlashAttention-3, figures 5 and 6); memory-bound
 * kernels about 0.85 of the bandwidth (STREAM-like copies on the same cards reach 0.9).
 */
const hopperEfficiency: Efficiency = {
  matmul: 720 / 989,
  attention: 539 / 989,
  attentionGrad: 516 / 989,
  memory: 0.85,
};

/** Of A100: FlashAttention-2 reaches 190 forward and 180 backward of 312 TFLOP/s, causal, head size 128 (Dao 2023, figures 5 and 6). */
const ampereEfficiency: Efficiency = {
  matmul: 250 / 312,
  attention: 190 / 312,
  attentionGrad: 180 / 312,
  memory: 0.85,
};

/**
 * A drive of a data center for each GPU (a DGX H100 has eight of 3.84 TB for data), PCIe 4.0 x4: 8 GB/s on paper, data sheets say 6 to 7
 * reading and 3 to 4 writing. Through the page cache and for hours on end less is reached: an estimate.
 */
const NVME = 3 * GBs;

const hopper = {
  gpusPerNode: 8,
  // NVIDIA H100 and H200 SXM data sheets: 989.4 TFLOP/s bf16 dense, 66.9 TFLOP/s fp32.
  peakFlops: { bf16: 989.4 * TFLOPS, f32: 66.9 * TFLOPS },
  // PCIe 5.0 x16 is 63 GB/s on paper; pinned copies reach 50 to 55.
  hostLink: 50 * GBs,
  fileLink: NVME,
  // NCCL's all-to-all bus bandwidth on 8 H100 is 320 GB/s of NVLink's 450.
  nodeLink: 320 * GBs,
  // One 400 Gb/s adapter a GPU: 50 GB/s; NCCL's all-to-all over 32 GPUs reaches 48.
  network: 48 * GBs,

  efficiency: hopperEfficiency,
} as const;

export const machines: readonly Machine[] = [
  {
    ...hopper,
    name: "h100-80gb",
    // PyTorch's "total capacity of 79.11 GiB" (vllm-project/vllm#27508).
    deviceBytes: Math.floor(79.1 * GiB),
    // "1.9 TB" of ALST's machines (arXiv:2506.13996, section 5.2), as a power of ten.
    hostBytes: 1.9e12,
    // Data sheet: 3.35 TB/s.
    deviceBandwidth: 3350 * GBs,
  },
  {
    ...hopper,
    name: "h200",
    // 141 GB on the box; 139 GiB and a little are reported.
    deviceBytes: 139 * GiB,
    hostBytes: 1.9e12,
    // Data sheet: 4.8 TB/s.
    deviceBandwidth: 4800 * GBs,
  },
  {
    name: "a100-80gb",
    // PyTorch's "79.25 GiB total capacity" (levihsu/OOTDiffusion#235), rounded down.
    deviceBytes: Math.floor(79.1 * GiB),
    // 1,152 GiB in AWS p4de.24xlarge, less an operating system.
    hostBytes: 1.1e12,
    gpusPerNode: 8,
    // A100 SXM data sheet: 312 TFLOP/s bf16 dense, 19.5 TFLOP/s fp32, 2,039 GB/s.
    peakFlops: { bf16: 312 * TFLOPS, f32: 19.5 * TFLOPS },
    deviceBandwidth: 2039 * GBs,
    // PCIe 4.0 x16: 32 GB/s on paper.
    hostLink: 25 * GBs,
    fileLink: NVME,
    // NVLink 3: 300 GB/s each way, reached in the same part as on H100.
    nodeLink: 210 * GBs,
    // Four 100 Gb/s adapters for eight GPUs.
    network: 6 * GBs,
    efficiency: ampereEfficiency,
  },
  {
    name: "b200",
    // 180 GB on the box of an HGX B200; 178 GiB and a little are reported of its 192 GB packages.
    deviceBytes: 178 * GiB,
    hostBytes: 1.9e12,
    gpusPerNode: 8,
    // HGX B200 data sheet: 2.25 PFLOP/s bf16 dense, 75 TFLOP/s fp32, 7.7 TB/s.
    peakFlops: { bf16: 2250 * TFLOPS, f32: 75 * TFLOPS },
    deviceBandwidth: 7700 * GBs,
    hostLink: 50 * GBs,
    fileLink: NVME,
    // NVLink 5: 900 GB/s each way, reached in the same part as on H100.
    nodeLink: 640 * GBs,
    network: 48 * GBs,
    efficiency: hopperEfficiency,
  },
];

export const machineNames: readonly string[] = machines.map(({ name }) => name);

/** The machine of a name; undefined for one that is not in the table. */
export function machineOf(name: string): Machine | undefined {
  return machines.find((machine) => machine.name === name);
}

/** Device memory that a CUDA program needs beside its arena. */
export interface Allowance {
  readonly what: string;
  readonly bytes: number;
  readonly source: string;
}

const context: Allowance = {
  what: "CUDA context",
  bytes: 0.5 * GiB,
  source: "about 300 MB with lazy loading (pytorch/pytorch#107667), more with every module loaded",
};
const libraries: Allowance = {
  what: "cuBLASLt and cuDNN, beside the workspaces of the plan",
  bytes: 0.25 * GiB,
  source: "handles and loaded kernels; an estimate",
};
const communicator = (axis: string): Allowance => ({
  what: `NCCL, the communicator of ${axis}`,
  bytes: Math.ceil(0.65 * GiB),
  source: "688 MB for each of more than two ranks (NVIDIA/nccl#964)",
});
const exchange = (axis: string): Allowance => ({
  what: `NCCL, all_to_all on ${axis}`,
  bytes: Math.ceil(3.1 * GiB),
  source: "from 1.06 to 4.34 GB at the first all-to-all on 8 H100 (NVIDIA/nccl#1685)",
});

/** A kind of collective on an axis of the mesh. */
export interface Collective {
  readonly op: string;
  readonly axis: string;
}

/** What is set aside on each GPU for a program with these collectives: a communicator for each axis (decision 11). */
export function allowancesFor(collectives: readonly Collective[]): readonly Allowance[] {
  const axes = [...new Set(collectives.map(({ axis }) => axis))].sort();
  return [
    ...[context, libraries],
    ...axes.map(communicator),
    ...axes.flatMap((axis) =>
      collectives.some((own) => own.axis === axis && own.op === "all_to_all") ? [exchange(axis)] : [],
    ),
  ];
}

/** What the process of one rank needs of host memory beside its arena. */
export const hostAllowance: Allowance = {
  what: "process",
  bytes: 2 * GiB,
  source: "driver, CUDA and NCCL on the host's side, the loaded libraries; an estimate",
};

/**
 * Ranks of this machine on CPUs, by what one thread of a Zen 4 server does: 95 GFLOP/s in f32 and 205 in bf16 (measured),
 * and 12 GB/s of memory copied; a file is taken to be on an SSD that the ranks share. Other machines differ; what is
 * predicted is an order of magnitude.
 */
export function cpuMachine(threads: number, ranks: number): Machine {
  return {
    name: "cpu",
    deviceBytes: Number.POSITIVE_INFINITY,
    hostBytes: Number.POSITIVE_INFINITY,
    gpusPerNode: ranks,
    peakFlops: { bf16: threads * 205e9, f32: threads * 95e9 },
    deviceBandwidth: 24 * GBs,
    hostLink: 12 * GBs,
    fileLink: 1 * GBs,
    nodeLink: 7 * GBs,
    network: 1 * GBs,
    efficiency: { matmul: 0.9, attention: 0.7, attentionGrad: 0.6, memory: 0.5 },
  };
}
