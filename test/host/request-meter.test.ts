/** What a serving thread counts of its requests, and how it is told: no device is needed for that. */
import { stat } from 'node:fs/promises';
import { request } from 'node:http';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { afterEach, describe, expect, test, vi } from 'vitest';
import { RequestKind } from '../../host/abi.js';
import { parseMetricsAddress } from '../../host/node/metrics-address.js';
import { serveMetrics } from '../../host/node/metrics-server.js';
import { meterMemory, percentile, RequestMeter, readMeter } from '../../host/node/request-meter.js';
import { summarize } from '../../host/node/request-summary.js';
import { below, chooseSeed, randomFrom } from '../random.js';
import { temporaryFolder } from '../temporary-folder.js';

afterEach(() => {
  vi.useRealTimers();
});

/** A meter whose clock stands until it is told. */
function meterWithClock(slots = 8) {
  const memory = meterMemory();
  const clock = { now: 0 };
  vi.spyOn(performance, 'now').mockImplementation(() => clock.now);
  return { memory, clock, meter: new RequestMeter(memory, slots) };
}

test('a request counts when a turn takes its answer, with the time from the turn that brought it', () => {
  const { memory, clock, meter } = meterWithClock();

  meter.afterTurn();
  meter.begin(3, RequestKind.Write, 4096);
  const under = readMeter(memory);
  meter.end(3, false);
  clock.now = 0.25;
  meter.beforeTurn();
  const { kinds, inFlight, mostInFlight } = readMeter(memory);

  expect(under).toMatchObject({ inFlight: 1, kinds: { write: { count: 0, bytes: 4096 } } });
  expect(kinds.write).toMatchObject({ count: 1, bytes: 4096, errors: 0, microseconds: 250 });
  expect(kinds.read.count).toBe(0);
  expect([inFlight, mostInFlight]).toEqual([0, 1]);
});

test('errors are counted by kind', () => {
  const { memory, meter } = meterWithClock();

  for (const [slot, kind] of [RequestKind.Read, RequestKind.Flush, RequestKind.Discard].entries()) {
    meter.begin(slot, kind, 0);
    meter.end(slot, kind !== RequestKind.Read);
  }
  meter.beforeTurn();

  const { kinds } = readMeter(memory);
  expect([kinds.read.errors, kinds.flush.errors, kinds.discard.errors, kinds.write.errors]).toEqual([0, 1, 1, 0]);
});

test('percentiles are a sixteenth too high at most, for latencies from a microsecond to a minute', () => {
  const seed = chooseSeed();
  const random = randomFrom(seed);
  const { memory, clock, meter } = meterWithClock();
  const latencies = Array.from({ length: 2000 }, () => Math.round(2 ** (random() * 26)) + below(random, 3));

  for (const microseconds of latencies) {
    clock.now = 0;
    meter.afterTurn();
    meter.begin(0, RequestKind.Read, 512);
    meter.end(0, false);
    clock.now = microseconds / 1000;
    meter.beforeTurn();
  }
  const { kinds } = readMeter(memory);

  const sorted = [...latencies].sort((a, b) => a - b);
  for (const share of [0.01, 0.5, 0.99, 0.999, 1]) {
    const exact = sorted[Math.ceil(share * sorted.length) - 1] as number;
    const told = percentile(kinds.read, share) as number;
    expect(told, `seed ${seed}, share ${share}`).toBeGreaterThanOrEqual(exact);
    expect(told, `seed ${seed}, share ${share}`).toBeLessThanOrEqual(exact * (17 / 16) + 0.25);
  }
});

test('a request that took longer than can be told counts as the longest', () => {
  const { memory, clock, meter } = meterWithClock();

  meter.begin(0, RequestKind.Read, 512);
  meter.end(0, false);
  clock.now = 86_400_000;
  meter.beforeTurn();

  expect(readMeter(memory).kinds.read.histogram).toEqual([{ microseconds: 2 ** 29, count: 1 }]);
});

test('a summary has no latency where there was no request', () => {
  const summary = summarize(readMeter(meterMemory()));

  expect(summary.read).toEqual({ count: 0, bytes: 0, errors: 0, mean: null, p50: null, p99: null, 'p99.9': null });
});

test.each(['10.0.0.1:9100', '0.0.0.0:9100', 'example.org:80', '9100', 'unix:', '127.0.0.1:70000', '[::2]:1'])(
  'metrics are not served at %s',
  (address) => {
    expect(() => parseMetricsAddress(address)).toThrow(expect.objectContaining({ code: 'ERR_INVALID_ARGUMENT' }));
  },
);

test.each([
  ['unix:/run/metrics', { path: '/run/metrics' }],
  ['127.0.0.1:0', { host: '127.0.0.1', port: 0 }],
  ['[::1]:9100', { host: '::1', port: 9100 }],
  ['localhost:1', { host: 'localhost', port: 1 }],
])('%s is an address for metrics', (text, address) => {
  expect(parseMetricsAddress(text)).toEqual(address);
});

describe('the metrics of a device', () => {
  const ENGINE = {
    cacheHits: 3,
    cacheMisses: 2,
    cacheEvictions: 1,
    cacheSize: 4096,
    allocatedClusters: 7,
    writeOuts: 0,
    flushes: 5,
    waits: 6,
    violations: 0,
    malformed: 0,
  };

  function measured() {
    const { memory, clock, meter } = meterWithClock();
    for (const microseconds of [3, 100, 5000]) {
      clock.now = 0;
      meter.afterTurn();
      meter.begin(0, RequestKind.Read, 512);
      meter.end(0, microseconds === 100);
      clock.now = microseconds / 1000;
      meter.beforeTurn();
    }
    vi.restoreAllMocks();
    return {
      node: '/dev/ublkb5',
      size: 65536,
      queueDepth: 128,
      requests: () => readMeter(memory),
      statistics: async () => ENGINE,
    };
  }

  function get(options: { socketPath: string } | { host: string; port: number }, path: string, method = 'GET') {
    return new Promise<{ status: number | undefined; type: string | undefined; text: string }>((resolve, reject) => {
      const asked = request({ ...options, path, method }, (response) => {
        let text = '';
        response.setEncoding('utf8');
        response.on('data', (piece: string) => {
          text += piece;
        });
        response.on('end', () =>
          resolve({ status: response.statusCode, type: response.headers['content-type'], text }),
        );
      });
      asked.on('error', reject);
      asked.end();
    });
  }

  test('are text for Prometheus on a socket for their owner alone', async () => {
    const path = join(temporaryFolder(), 'metrics');
    const device = measured();
    await using server = await serveMetrics({ path }, () => [device]);

    const { status, type, text } = await get({ socketPath: path }, '/metrics');
    const again = await get({ socketPath: path }, '/metrics');

    expect([status, type, server.address]).toEqual([200, 'text/plain; version=0.0.4; charset=utf-8', `unix:${path}`]);
    expect((await stat(path)).mode & 0o777).toBe(0o600);
    const lines = text.split('\n');
    const labels = 'device="/dev/ublkb5",kind="read"';
    for (const line of [
      `corral_requests_total{${labels}} 3`,
      `corral_request_bytes_total{${labels}} 1536`,
      `corral_request_errors_total{${labels}} 1`,
      `corral_request_duration_seconds_bucket{${labels},le="0.000004"} 1`,
      `corral_request_duration_seconds_bucket{${labels},le="0.000128"} 2`,
      `corral_request_duration_seconds_bucket{${labels},le="+Inf"} 3`,
      `corral_request_duration_seconds_count{${labels}} 3`,
      '# TYPE corral_request_duration_seconds histogram',
      'corral_requests_in_flight{device="/dev/ublkb5"} 0',
      'corral_queue_depth{device="/dev/ublkb5"} 128',
      'corral_cache_hits_total{device="/dev/ublkb5"} 3',
      'corral_engine_waits_total{device="/dev/ublkb5"} 6',
      'corral_allocated_clusters_total{device="/dev/ublkb5"} 7',
    ]) {
      expect(lines).toContain(line);
    }
    expect(text).toMatch(/corral_request_latency_seconds\{.*kind="read",quantile="0.99"\} 0\.005\d*/);
    // Counters are set, not added up, by who asks.
    expect(again.text).toContain(`corral_requests_total{${labels}} 3\n`);
    expect(again.text).toContain('corral_cache_hits_total{device="/dev/ublkb5"} 3\n');
  });

  test('are JSON for scripts on a port of this machine, and nothing else is there', async () => {
    const device = measured();
    await using server = await serveMetrics({ host: '127.0.0.1', port: 0 }, () => [device]);
    const place = { host: '127.0.0.1', port: Number(server.address.split(':')[1]) };

    const { status, text } = await get(place, '/metrics.json');
    const [elsewhere, posted] = [await get(place, '/'), await get(place, '/metrics', 'POST')];

    expect(status).toBe(200);
    expect(JSON.parse(text)).toMatchObject({
      pid: process.pid,
      devices: [
        {
          device: '/dev/ublkb5',
          queueDepth: 128,
          engine: ENGINE,
          requests: { inFlight: 0, mostInFlight: 1, read: { count: 3, errors: 1 }, write: { count: 0, p50: null } },
        },
      ],
    });
    expect([elsewhere.status, posted.status]).toEqual([404, 405]);
  });

  test('go without the engine of a device that is ending', async () => {
    const device = { ...measured(), statistics: () => Promise.reject(new Error('it ends')) };
    await using server = await serveMetrics({ host: '127.0.0.1', port: 0 }, () => [device]);
    const place = { host: '127.0.0.1', port: Number(server.address.split(':')[1]) };

    const { status, text } = await get(place, '/metrics');

    expect(status).toBe(200);
    expect(text).toContain('corral_requests_total{');
    expect(text).not.toContain('corral_cache_hits_total{');
  });

  test('take the place of a dead server, and of nobody else', async () => {
    const path = join(temporaryFolder(), 'metrics');
    const living = createServer().listen(path);
    await new Promise((resolve) => living.once('listening', resolve));

    const refused = serveMetrics({ path }, () => []);

    await expect(refused).rejects.toMatchObject({ code: 'ERR_EXISTS' });
    await new Promise((resolve) => living.close(resolve));
    await using server = await serveMetrics({ path }, () => []);
    expect(server.address).toBe(`unix:${path}`);
  });
});
