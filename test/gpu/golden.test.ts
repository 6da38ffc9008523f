/** @file Training on a GPU equals Hugging Face transformers under PyTorch. */
import { describeGoldens } from "../support/golden-runs.ts";

describeGoldens("cuda");
