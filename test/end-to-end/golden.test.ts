/** @file Training on the CPU equals Hugging Face transformers under PyTorch. */
import { describeGoldens } from "../support/golden-runs.ts";

describeGoldens("cpu");
