/** @file `ithaca check-op`: holds an op of the user's own together with its record, its compiled kernel included. */
import { Command, Option } from "commander";
import { createColors } from "picocolors";
import type { Finding } from "../check-op.ts";
import type { TargetName } from "../codegen/targets.ts";
import { type Exit, print, printJson, report } from "./output.ts";

const titleOf = ({ op, sample }: Finding): string => `${op} on ${sample}`;

export function checkOpCommand(exit: Exit): Command {
  return new Command("check-op")
    .description("check an op of your own: types, gradient, sharding and kernels against its eval")
    .argument("<file>", "a TypeScript file with the op, its kernel and samples")
    .addOption(
      new Option("--target <target>", "the target whose kernel is run; cpu unless given")
        .choices(["cpu", "cuda"])
        .default("cpu"),
    )
    .option("--json", "print one JSON object", false)
    .action(async (file: string, { target, json }: { target: TargetName; json: boolean }) => {
      const { checkOps } = await import("../check-op.ts");
      const findings = await checkOps(file, target, report);
      const wrong = findings.filter((own) => own.wrong !== null);
      exit(wrong.length > 0 ? 1 : 0);
      if (json) {
        printJson({ findings });
        return;
      }
      const colors = createColors(process.stdout.isTTY === true);
      const titles = [...new Set(findings.map(titleOf))];
      for (const title of titles) {
        print(title);
        for (const { what, wrong } of findings.filter((own) => titleOf(own) === title)) {
          if (wrong === null) print(`  ${colors.green("holds")}  ${what}`);
          else print(`  ${colors.red("fails")}  ${what}: ${wrong}`);
        }
      }
    });
}
