/** @file The CUDA kernel of every op on a GPU against its reference evaluation. */
import { kernels } from "../../src/codegen/cuda/kernels.ts";
import { describeKernels } from "../support/kernel-agreement.ts";

describeKernels("cuda", kernels);
