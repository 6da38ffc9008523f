/** @file What the CUDA target makes of every op, on a simulated device, against its reference evaluation. */
import { kernels } from "../../src/codegen/cuda/kernels.ts";
import { describeKernels } from "../support/kernel-agreement.ts";
import { simulatedCuda } from "../support/simulated-cuda.ts";

describeKernels("cuda", kernels, simulatedCuda);
