/** Runs one script, or a shell, in a virtual machine by hand; started by `run.mjs`. */
import { readFile } from 'node:fs/promises';
import { parseArgs } from 'node:util';
import { KERNEL_SERIES, type KernelSeries } from './kernel.js';
import { Machine } from './machine.js';
import { scenarioScript } from './scenario.js';

const USAGE = `usage: node test/vm/run.mjs [options] (SCENARIO [ARGUMENT...] | -c SCRIPT | -f FILE)

Runs a scenario of test/vm/scenarios with its arguments, a bash script, or a file of one, as root in a virtual machine.

  -k, --kernel SERIES    ${KERNEL_SERIES.join(' or ')} (default: the last)
  -w, --shared DIR       share DIR read-write, at the same path ($SHARED)
  -M, --modules A,B      load these modules (default: ublk_drv)
  -m, --memory MIB       memory (default: 2048)
  -s, --cpus N           processors (default: as here, at most 4)
  -t, --seconds N        time limit of the script (default: 600)

Exit status: the script's own; 124 when its time was up; 125 when the machine died.
`;

/** The whole command. Returns its exit status. */
export async function main(argv: readonly string[]): Promise<number> {
  const { values, positionals } = parseArgs({
    args: [...argv],
    allowPositionals: true,
    options: {
      kernel: { type: 'string', short: 'k', default: KERNEL_SERIES.at(-1) },
      shared: { type: 'string', short: 'w' },
      modules: { type: 'string', short: 'M', default: 'ublk_drv' },
      memory: { type: 'string', short: 'm', default: '2048' },
      cpus: { type: 'string', short: 's' },
      seconds: { type: 'string', short: 't', default: '600' },
      command: { type: 'string', short: 'c' },
      file: { type: 'string', short: 'f' },
      help: { type: 'boolean', short: 'h' },
    },
  });
  const series = KERNEL_SERIES.find((each) => each === values.kernel);
  const [name, ...args] = positionals;
  if (values.help || series === undefined || (name ?? values.command ?? values.file) === undefined) {
    process.stdout.write(USAGE);
    return values.help ? 0 : 2;
  }
  const script =
    values.command ??
    (values.file !== undefined ? await readFile(values.file, 'utf8') : scenarioScript(name ?? '', ...args));
  return await runOne(series, script, Number(values.seconds), {
    memoryMiB: Number(values.memory),
    modules: values.modules.split(',').filter((module) => module !== ''),
    ...(values.shared === undefined ? {} : { shared: values.shared }),
    ...(values.cpus === undefined ? {} : { cpus: Number(values.cpus) }),
  });
}

async function runOne(
  series: KernelSeries,
  script: string,
  seconds: number,
  options: Parameters<typeof Machine.create>[1],
): Promise<number> {
  const machine = await Machine.create(series, options);
  try {
    const outcome = await machine.run(script, { seconds, onOutput: (chunk) => process.stdout.write(chunk) });
    process.stderr.write(`status ${outcome.status} after ${outcome.seconds.toFixed(1)} s\n`);
    return outcome.timedOut ? 124 : outcome.status;
  } catch (error) {
    process.stderr.write(`${error instanceof Error ? error.message : String(error)}\n`);
    return 125;
  } finally {
    await machine.close();
  }
}
