/** `corral serve`: an image as a block device where that is possible, else over NBD; says which, and what to type next. */

import { existsSync, statSync } from 'node:fs';
import type { TcpAddress } from '../../nbd/listen-address.js';
import type { TlsOptionsOfServer } from '../../nbd/tls.js';
import type { MetricsAddress } from '../../node/metrics-address.js';
import type { UblkDevice } from '../../node/ublk-device.js';
import { countArgument, type Format, formatArgument } from '../arguments.js';
import { IMAGE, METRICS, NO_BACKING } from '../common-options.js';
import { readDeviceName } from '../device-name.js';
import { whyNoUblk } from '../devices.js';
import { nameOfPath } from '../image-name.js';
import { flag, list, text, value } from '../option-table.js';
import { CommandError, escapeText, humanSize, reasonOf, type Terminal, UsageError } from '../output.js';
import type { ServeNbdOptions } from '../serve-nbd.js';
import { type StopSignal, stopSignal } from '../signals.js';
import { defineVerb } from '../verb.js';

const SAMPLE = 'corral-sample.qcow2';
const SAMPLE_SIZE = 1024 ** 3;
/** Each can make the server hold 32 MiB. */
const MOST_CLIENTS = 4096;

interface Options {
  nbd: boolean;
  socket: string | undefined;
  tcp: TcpAddress | undefined;
  insecure: boolean;
  tlsCertificates: string | undefined;
  tlsPsk: string | undefined;
  tlsNoVerifyPeer: boolean;
  exportName: string | undefined;
  imageOpts: boolean;
  format: Format | undefined;
  snapshot: string | undefined;
  bitmap: readonly string[];
  clients: number | undefined;
  once: boolean;
  readOnly: boolean;
  noBacking: boolean;
  noGuard: boolean;
  metrics: MetricsAddress | undefined;
}

export const serve = defineVerb({
  about:
    'Serves images: as block devices (ublk) if kernel and permissions allow it, else over NBD.\n' +
    `Without one, ${SAMPLE} in this folder, which is made when it is missing.\n` +
    'All options but --read-only, --no-backing, --image-opts and --metrics are about NBD, and imply --nbd.',
  operands: '[IMAGE...]',
  options: {
    imageOpts: IMAGE.imageOpts,
    nbd: flag('--nbd', 'NBD, even where ublk would work'),
    socket: text('--socket PATH', 'where to make the NBD socket'),
    tcp: value('--tcp ADDRESS', 'a port instead of a socket: PORT or HOST:PORT, of this machine alone', readAddress),
    insecure: flag('--insecure', 'other machines too, without TLS'),
    tlsCertificates: text(
      '--tls-certificates FOLDER',
      'TLS, with ca-cert.pem, server-cert.pem and server-key.pem in that folder',
    ),
    tlsNoVerifyPeer: flag('--tls-no-verify-peer', 'TLS for clients without a certificate too'),
    tlsPsk: text('--tls-psk FILE', 'TLS, with keys that clients know: a line NAME:HEXKEY for each'),
    exportName: text('-x, --export-name NAME', "what clients call the image; default: the file's name"),
    format: value('-f, --format FMT', 'format of the images: qcow2 (default) or raw', (given) => formatArgument(given)),
    noGuard: flag('--no-guard', 'clients may write the header of an image into the first sector of a raw disk'),
    snapshot: text('-l, --snapshot NAME', 'an internal snapshot by id or name, read-only'),
    bitmap: list('-B, --bitmap NAME', 'a bitmap that clients may ask for; can be given several times'),
    clients: value('-e, --clients N', 'clients at a time; default: 16', (given) =>
      countArgument(given, 'number of clients', 1, MOST_CLIENTS),
    ),
    once: flag('--once', 'end when the last client has left'),
    readOnly: flag('-r, --read-only', 'refuse writes'),
    ...NO_BACKING,
    ...METRICS,
  },
  async run({ values, operands }, { terminal }) {
    if (values.exportName !== undefined && operands.length > 1) {
      throw new UsageError('--export-name is for one image');
    }
    const nbd = nbdOptions(values);
    const stop = stopSignal();
    try {
      const sample = operands.length === 0 ? [nameOfPath(await sampleImage(terminal))] : [];
      const imageOpts = values.imageOpts && operands.length > 0;
      await serveImages([...sample, ...operands], { ...nbd, imageOpts }, { terminal, stop });
    } finally {
      stop.release();
    }
  },
});

/** `PORT`, `HOST:PORT` or `[HOST]:PORT`. */
function readAddress(given: string): TcpAddress {
  const [, bracketed, plain, port = ''] = /^(?:\[(.+)\]:|([^:]+):)?(\d+)$/.exec(given) ?? [];
  const host = bracketed ?? plain;
  const number = countArgument(port === '' ? given : port, 'port', 0, 65535);
  return host === undefined ? { port: number } : { host, port: number };
}

/** What the options of NBD mean together. Throws `UsageError`. */
function nbdOptions(values: Options): ServeNbdOptions & { wantsNbd: boolean } {
  const { socket, tcp, insecure, bitmap, exportName, imageOpts, format, snapshot, clients, once } = values;
  if (socket !== undefined && tcp !== undefined) throw new UsageError('--socket and --tcp exclude each other');
  if (insecure && tcp === undefined) throw new UsageError('--insecure needs --tcp');
  const tls = tlsOptions(values);
  const wantsNbd = [socket, tcp, tls, exportName, format, snapshot, clients].some((one) => one !== undefined);
  const { readOnly, noBacking, noGuard, metrics } = values;
  if (noGuard && format !== 'raw' && !imageOpts) throw new UsageError('--no-guard is for raw disks: it needs -f raw');
  const address = tcp === undefined ? undefined : { ...tcp, insecure };
  const what = { readOnly, noBacking, noGuard, imageOpts, format, snapshot, bitmaps: bitmap, exportName };
  return {
    ...what,
    socket,
    tcp: address,
    tls,
    clients,
    metrics,
    once,
    wantsNbd: wantsNbd || values.nbd || once || noGuard || bitmap.length > 0,
  };
}

function tlsOptions({ tlsCertificates, tlsPsk, tlsNoVerifyPeer }: Options): TlsOptionsOfServer | undefined {
  if (tlsCertificates !== undefined && tlsPsk !== undefined) {
    throw new UsageError('--tls-certificates and --tls-psk exclude each other');
  }
  if (tlsNoVerifyPeer && tlsCertificates === undefined) {
    throw new UsageError('--tls-no-verify-peer needs --tls-certificates');
  }
  if (tlsCertificates !== undefined) return { certificates: tlsCertificates, verifyPeer: !tlsNoVerifyPeer };
  return tlsPsk === undefined ? undefined : { keys: tlsPsk };
}

/** An image to play with. What the user did to it stays. */
async function sampleImage(terminal: Terminal): Promise<string> {
  if (existsSync(SAMPLE)) {
    if (!statSync(SAMPLE).isFile()) throw new CommandError(`'${SAMPLE}' is no file: which image shall be served?`);
    return SAMPLE;
  }
  const { newImage } = await import('../create-options.js');
  const { makeImage } = await import('../new-file.js');
  try {
    await makeImage(SAMPLE, newImage(SAMPLE, 'qcow2', []), BigInt(SAMPLE_SIZE));
  } catch (error) {
    throw new CommandError(`Could not create the sample image '${SAMPLE}': ${reasonOf(error)}`, 1, { cause: error });
  }
  terminal.print(`No image given: made ${SAMPLE}, ${humanSize(SAMPLE_SIZE)} and empty.\n`);
  return SAMPLE;
}

interface Surroundings {
  readonly terminal: Terminal;
  readonly stop: StopSignal;
}

async function serveImages(
  paths: readonly string[],
  options: ServeNbdOptions & { wantsNbd: boolean },
  around: Surroundings,
): Promise<void> {
  const obstacle = options.wantsNbd ? 'Not asked for' : await whyNoUblk();
  if (obstacle === undefined) await overUblk(paths, options, around);
  else await overNbd(paths, options, obstacle, around);
}

async function overUblk(
  paths: readonly string[],
  { readOnly, noBacking, imageOpts, metrics }: ServeNbdOptions,
  { terminal, stop }: Surroundings,
): Promise<void> {
  const { makeDevice, serveDevices } = await import('../serve-device.js');
  const named = paths.map((path) => readDeviceName(path, { imageOpts }, { readOnly }));
  const waiting = [...paths];
  const onReady = ({ node, diskSize }: UblkDevice): void => {
    const next = readOnly ? `fdisk -l ${node}` : `mkfs.ext4 ${node}`;
    terminal.print(
      `${escapeText(waiting.shift() ?? '')}, ${humanSize(diskSize)}, is the block device ${node} (ublk). Ctrl-C ends it.\n` +
        `Next, as root: lsblk -f ${node}, or, ${readOnly ? 'if it has partitions' : 'if it is empty'}: ${next}\n`,
    );
  };
  const makers = named.map(
    ({ path, options }) =>
      () =>
        makeDevice(path, { ...options, backing: !noBacking }),
  );
  await serveDevices(makers, stop, { onReady, warn: (line) => terminal.note(line), metrics });
}

async function overNbd(
  paths: readonly string[],
  options: ServeNbdOptions,
  obstacle: string,
  { terminal, stop }: Surroundings,
): Promise<void> {
  const { serveOverNbd } = await import('../serve-nbd.js');
  await serveOverNbd(paths, options, {
    stop,
    terminal,
    onReady(server, exported) {
      for (const [index, { size, uri }] of exported.entries()) {
        terminal.print(
          `${escapeText(paths[index] ?? '')}, ${humanSize(size)}, is served over NBD (ublk: ${escapeText(obstacle)}). Ctrl-C ends it.\n`,
        );
        if (exported.length > 1) terminal.print(`Its name: ${escapeText(uri)}\n`);
      }
      // The address without a name leads to the first of them.
      terminal.print(`Next: ${nextCommand(server.uri, options, exported[0]?.readOnly === true)}\n`);
    },
  });
}

/** What a user may type now. */
function nextCommand(uri: string, { tls }: ServeNbdOptions, readOnly: boolean): string {
  if (tls === undefined) return `qemu-io ${readOnly ? '-r ' : ''}-f raw '${escapeText(uri)}' -c 'read 0 4k'`;
  const separator = uri.includes('?') ? '&' : '?';
  const credentials = 'keys' in tls ? `tls-psk-file=${tls.keys}` : `tls-certificates=${tls.certificates}`;
  const named = 'keys' in tls ? uri.replace('://', '://USER@') : uri;
  return `nbdinfo '${escapeText(named + separator + credentials)}'`;
}
