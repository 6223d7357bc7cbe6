/** `corral stat`: what a block device or an image of ours does. */

import { readFile } from 'node:fs/promises';
import { setTimeout as wait } from 'node:timers/promises';
import { METERED_KINDS } from '../../node/request-meter.js';
import type { RequestsSummary } from '../../node/request-summary.js';
import type { UblkEngineStatistics } from '../../node/ublk-verbs.js';
import { countArgument, outputArgument } from '../arguments.js';
import { askLive, type Live, mustBeLive } from '../live.js';
import { value } from '../option-table.js';
import { CommandError, humanSize, type Terminal } from '../output.js';
import { stopSignal } from '../signals.js';
import { defineVerb, oneOperand } from '../verb.js';

const LONGEST_INTERVAL = 86_400;
const SECTOR = 512;
/** Lines between two heads of the table. */
const PAGE = 20;
const LATENCY_WIDTH = 12;

interface ServerStatistics {
  readonly device: string;
  readonly pid: number;
  readonly size: number;
  readonly features: { readonly dataPath: string; readonly recovery: string; readonly updateSize: boolean };
  readonly queueDepth: number;
  readonly requests: RequestsSummary;
  readonly engine: UblkEngineStatistics;
}

/** Of one kind of request: how many, of how many bytes, and the milliseconds that they took together. */
interface Requests {
  readonly count: number;
  readonly bytes: number;
  readonly milliseconds: number;
}

/** What the kernel counts of a block device. */
interface KernelStatistics {
  readonly read: Requests;
  readonly write: Requests;
  readonly discard: Requests;
  readonly flush: Requests;
  readonly inFlight: number;
}

export const stat = defineVerb({
  about:
    'Says what a block device of `attach`, or an image of `serve`, has done since it was made; with --watch what it does, a line each interval.',
  operands: 'DEVICE|ADDRESS',
  options: {
    output: value('--output KIND', 'human or json', outputArgument),
    watch: value('--watch SECONDS', 'until SIGINT or SIGTERM', (given) =>
      countArgument(given, 'interval', 1, LONGEST_INTERVAL),
    ),
  },
  async run({ values: { output, watch }, operands }, { terminal }) {
    const live = mustBeLive(oneOperand(operands, 'Expecting one device (/dev/ublkbN, or N) or NBD address'));
    if (watch !== undefined) await watchDevice(live, watch, terminal);
    else
      terminal.print(output === 'json' ? `${JSON.stringify(await look(live), null, 4)}\n` : describe(await look(live)));
  },
});

interface Look extends ServerStatistics {
  /** Of a block device. */
  readonly kernel?: KernelStatistics;
}

async function look(live: Live): Promise<Look> {
  const about = `Could not ask '${live.name}'`;
  const server = (await askLive(live, { verb: 'stat' }, about)) as ServerStatistics;
  if (live.id === undefined) return server;
  try {
    return { ...server, kernel: parseKernel(await readFile(`/sys/block/ublkb${live.id}/stat`, 'utf8')) };
  } catch (error) {
    throw new CommandError(`${about}: ${(error as Error).message}`, 1, { cause: error });
  }
}

/** What clients have asked for: the kernel knows it of a device, the server of an image. */
function trafficOf({ kernel, requests }: Look): KernelStatistics {
  if (kernel !== undefined) return kernel;
  const of = (kind: 'read' | 'write' | 'discard' | 'flush'): Requests => {
    const { count, bytes, mean } = requests[kind];
    return { count, bytes, milliseconds: ((mean ?? 0) * count) / 1000 };
  };
  const { inFlight } = requests;
  return { read: of('read'), write: of('write'), discard: of('discard'), flush: of('flush'), inFlight };
}

/** The kernel's Documentation/block/stat.rst. */
function parseKernel(text: string): KernelStatistics {
  const numbers = text.trim().split(/\s+/).map(Number);
  const at = (index: number): number => numbers[index] ?? 0;
  const of = (first: number): Requests => ({
    count: at(first),
    bytes: at(first + 2) * SECTOR,
    milliseconds: at(first + 3),
  });
  const flush = { count: at(15), bytes: 0, milliseconds: at(16) };
  return { read: of(0), write: of(4), discard: of(11), flush, inFlight: at(8) };
}

function describe(seen: Look): string {
  const { device, pid, size, queueDepth, features, requests, engine } = seen;
  const traffic = trafficOf(seen);
  const { dataPath, recovery, updateSize } = features;
  const kinds = (['read', 'write', 'discard', 'flush'] as const).map((kind) => {
    const { count, bytes, milliseconds } = traffic[kind];
    return `${kind}: ${count} requests, ${humanSize(bytes)}, ${average({ count, milliseconds })} on average\n`;
  });
  return (
    `${device}: ${humanSize(size)}, process ${pid}, ${traffic.inFlight} requests in flight, ${requests.inFlight} of ` +
    `${queueDepth} here (at most ${requests.mostInFlight} so far)\n` +
    `data path ${dataPath}, recovery ${recovery}, live resize ${updateSize ? 'yes' : 'no'}\n` +
    `${kinds.join('')}${latencies(requests)}` +
    `metadata cache: ${humanSize(engine.cacheSize)}, ${percent(engine)} hits, ${engine.cacheEvictions} evictions\n` +
    `clusters allocated: ${engine.allocatedClusters}; waits: ${engine.waits}; flushes of the file: ${engine.flushes}\n`
  );
}

/** Of the server alone: what the kernel adds is in its own averages. */
function latencies(requests: RequestsSummary): string {
  const rows = METERED_KINDS.filter((kind) => requests[kind].count > 0).map((kind) => {
    const { p50, p99, 'p99.9': p999, errors } = requests[kind];
    const cells = [p50, p99, p999].map((value) => (value === null ? '-' : `${value.toFixed(0)} us`));
    return row([kind, ...cells, String(errors)], LATENCY_WIDTH);
  });
  return rows.length === 0 ? '' : `${row(['served', 'p50', 'p99', 'p99.9', 'errors'], LATENCY_WIDTH)}${rows.join('')}`;
}

async function watchDevice(live: Live, seconds: number, terminal: Terminal): Promise<void> {
  const stop = stopSignal();
  const { signal } = stop;
  try {
    let before = await look(live);
    for (let line = 0; ; line++) {
      await wait(seconds * 1000, undefined, { signal }).catch(() => {});
      if (signal.aborted) return;
      const now = await look(live);
      const [traffic, earlier] = [trafficOf(now), trafficOf(before)];
      if (line % PAGE === 0) terminal.print(row(['READ/S', 'MIB/S', 'WRITE/S', 'MIB/S', 'FLUSH/S', 'WAITING', 'HITS']));
      const rates = (['read', 'write'] as const).flatMap((kind) => {
        const [newer, older] = [traffic[kind], earlier[kind]];
        return [rate(newer.count - older.count, seconds), rate((newer.bytes - older.bytes) / 2 ** 20, seconds)];
      });
      const flushes = rate(traffic.flush.count - earlier.flush.count, seconds);
      const since = {
        cacheHits: now.engine.cacheHits - before.engine.cacheHits,
        cacheMisses: now.engine.cacheMisses - before.engine.cacheMisses,
      };
      terminal.print(row([...rates, flushes, String(traffic.inFlight), percent(since)]));
      before = now;
    }
  } finally {
    stop.release();
  }
}

function row(cells: readonly string[], width = 9): string {
  return `${cells.map((cell) => cell.padStart(width)).join('')}\n`;
}

function rate(amount: number, seconds: number): string {
  return (amount / seconds).toFixed(amount < 10 * seconds ? 1 : 0);
}

function average({ count, milliseconds }: Pick<Requests, 'count' | 'milliseconds'>): string {
  return count === 0 ? '-' : `${(milliseconds / count).toFixed(2)} ms`;
}

function percent({ cacheHits, cacheMisses }: Pick<UblkEngineStatistics, 'cacheHits' | 'cacheMisses'>): string {
  const all = cacheHits + cacheMisses;
  return all === 0 ? '-' : `${((100 * cacheHits) / all).toFixed(1)}%`;
}
