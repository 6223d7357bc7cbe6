/** What devices do, as metrics for Prometheus and as JSON. Values are read when somebody asks, and counted nowhere else. */
import { Counter, collectDefaultMetrics, Gauge, type Metric, Registry } from 'prom-client';
import { METERED_KINDS, type MeterReading, percentile, type RequestStatistics } from './request-meter.js';
import { summarize } from './request-summary.js';
import type { UblkDevice } from './ublk-device.js';
import type { UblkEngineStatistics } from './ublk-verbs.js';

/** What is measured of a device. */
export interface MeasuredDevice extends Pick<UblkDevice, 'node' | 'size' | 'queueDepth' | 'requests'> {
  statistics(): Promise<EngineStatistics>;
}

/** What only a ring counts is missing where there is none. */
export type EngineStatistics = Omit<UblkEngineStatistics, RingCounter> &
  Partial<Pick<UblkEngineStatistics, RingCounter>>;

type RingCounter = 'violations' | 'malformed';

/** Seconds, from 4 microseconds to a minute by factors of 2: the meter's buckets are cut there, too. */
const BOUNDS = Array.from({ length: 25 }, (_, index) => (4 * 2 ** index) / 1e6);

const QUANTILES = [0.5, 0.99, 0.999];

/** The registry of all that is known of the devices, whichever there are when somebody asks. */
export function deviceMetrics(devices: () => readonly MeasuredDevice[]): Registry {
  const registry = new Registry();
  collectDefaultMetrics({ register: registry });
  registry.registerMetric(durations(devices));
  for (const [name, help, of] of REQUEST_COUNTERS) {
    new Counter({
      name,
      help,
      labelNames: ['device', 'kind'],
      registers: [registry],
      collect() {
        this.reset();
        for (const { node, requests } of read(devices())) {
          for (const kind of METERED_KINDS) this.inc({ device: node, kind }, of(requests.kinds[kind]));
        }
      },
    });
  }
  new Gauge({
    name: 'corral_request_latency_seconds',
    help: 'Latency that this share of the requests did not exceed, since the device was made.',
    labelNames: ['device', 'kind', 'quantile'],
    registers: [registry],
    collect() {
      this.reset();
      for (const { node, requests } of read(devices())) {
        for (const kind of METERED_KINDS) {
          for (const quantile of QUANTILES) {
            const microseconds = percentile(requests.kinds[kind], quantile);
            if (microseconds !== undefined) this.set({ device: node, kind, quantile }, microseconds / 1e6);
          }
        }
      }
    },
  });
  for (const [name, help, of] of DEVICE_GAUGES) {
    new Gauge({
      name,
      help,
      labelNames: ['device'],
      registers: [registry],
      collect() {
        this.reset();
        for (const device of devices()) this.set({ device: device.node }, of(device));
      },
    });
  }
  addEngineMetrics(registry, devices);
  return registry;
}

/** Everything at once, for scripts. */
export async function metricsJson(devices: readonly MeasuredDevice[]): Promise<object> {
  const described = devices.map(async (device) => ({
    device: device.node,
    size: device.size,
    queueDepth: device.queueDepth,
    requests: summarize(device.requests()),
    engine: await engineOf(device),
  }));
  return { pid: process.pid, devices: await Promise.all(described) };
}

const REQUEST_COUNTERS: readonly (readonly [string, string, (requests: RequestStatistics) => number])[] = [
  ['corral_requests_total', 'Requests of the kernel that were answered.', ({ count }) => count],
  ['corral_request_bytes_total', 'Bytes that requests were about.', ({ bytes }) => bytes],
  ['corral_request_errors_total', 'Requests that were answered with an error.', ({ errors }) => errors],
];

const DEVICE_GAUGES: readonly (readonly [string, string, (device: MeasuredDevice) => number])[] = [
  ['corral_requests_in_flight', 'Requests that wait for their answer.', (device) => device.requests().inFlight],
  ['corral_requests_in_flight_max', 'The most at one time.', (device) => device.requests().mostInFlight],
  ['corral_queue_depth', 'Requests that there can be at one time.', ({ queueDepth }) => queueDepth],
  ['corral_device_size_bytes', 'Bytes of the block device.', ({ size }) => size],
];

const ENGINE_COUNTERS: readonly (readonly [string, string, keyof UblkEngineStatistics])[] = [
  ['corral_cache_hits_total', 'Metadata that was in the cache when it was needed.', 'cacheHits'],
  ['corral_cache_misses_total', 'Metadata that had to be read.', 'cacheMisses'],
  ['corral_cache_evictions_total', 'Metadata that had to leave the cache.', 'cacheEvictions'],
  ['corral_allocated_clusters_total', 'Clusters that were allocated.', 'allocatedClusters'],
  ['corral_engine_waits_total', 'Requests that had to wait for another one, or for metadata.', 'waits'],
  ['corral_file_flushes_total', 'Times that the image file was made durable.', 'flushes'],
  ['corral_malformed_requests_total', 'Requests of the kernel that made no sense.', 'malformed'],
  ['corral_engine_violations_total', 'What the engine asked for and was refused: a fault of corral.', 'violations'],
];

/** The engines are asked once each time that somebody asks: by whichever of their metrics comes first. */
function addEngineMetrics(registry: Registry, devices: () => readonly MeasuredDevice[]): void {
  let asking: Promise<(readonly [string, EngineStatistics | null])[]> | undefined;
  const ask = (): NonNullable<typeof asking> => {
    asking ??= Promise.all(devices().map(async (device) => [device.node, await engineOf(device)] as const)).finally(
      () => {
        asking = undefined;
      },
    );
    return asking;
  };
  for (const [name, help, field] of ENGINE_COUNTERS) {
    new Counter({
      name,
      help,
      labelNames: ['device'],
      registers: [registry],
      async collect() {
        const engines = await ask();
        this.reset();
        for (const [device, engine] of engines) {
          const value = engine?.[field];
          if (value !== undefined) this.inc({ device }, value);
        }
      },
    });
  }
  new Gauge({
    name: 'corral_cache_size_bytes',
    help: 'Bytes of metadata that the cache holds at most.',
    labelNames: ['device'],
    registers: [registry],
    async collect() {
      const engines = await ask();
      this.reset();
      for (const [device, engine] of engines) if (engine !== null) this.set({ device }, engine.cacheSize);
    },
  });
}

/** Null when the device is ending. */
async function engineOf(device: MeasuredDevice): Promise<EngineStatistics | null> {
  return device.statistics().catch(() => null);
}

function read(devices: readonly MeasuredDevice[]): { node: string; requests: MeterReading }[] {
  return devices.map((device) => ({ node: device.node, requests: device.requests() }));
}

/** A histogram whose values others have counted. The registry needs no more of a metric than this. */
function durations(devices: () => readonly MeasuredDevice[]): Metric {
  const name = 'corral_request_duration_seconds';
  const help = 'Time from the turn of the ring that brought a request to the one that takes its answer.';
  const get = async () => ({
    name,
    help,
    type: 'histogram',
    aggregator: 'sum',
    values: read(devices()).flatMap(values),
  });
  return { name, help, type: 'histogram', aggregator: 'sum', get } as unknown as Metric;
}

function values({ node, requests }: { node: string; requests: MeterReading }): object[] {
  const name = 'corral_request_duration_seconds';
  return METERED_KINDS.flatMap((kind) => {
    const labels = { device: node, kind };
    const { count, microseconds, histogram } = requests.kinds[kind];
    const buckets = BOUNDS.map((bound) => {
      const below = histogram.filter((bucket) => bucket.microseconds <= bound * 1e6);
      return { metricName: `${name}_bucket`, labels: { ...labels, le: bound }, value: below.at(-1)?.count ?? 0 };
    });
    return [
      ...buckets,
      { metricName: `${name}_bucket`, labels: { ...labels, le: '+Inf' }, value: count },
      { metricName: `${name}_sum`, labels, value: microseconds / 1e6 },
      { metricName: `${name}_count`, labels, value: count },
    ];
  });
}
