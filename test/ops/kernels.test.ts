/** @file The CPU kernel of every op against its reference evaluation. */
import { kernels } from "../../src/codegen/cpu/kernels.ts";
import { describeKernels } from "../support/kernel-agreement.ts";

describeKernels("cpu", kernels);
