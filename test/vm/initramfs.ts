/**
 * The guest's first file system: busybox, the modules that the real root needs, and the guest's scripts.
 *
 * It is a cpio archive in the "newc" format, which the kernel's documentation describes in
 * `driver-api/early-userspace/buffer-format`. Writing one takes fewer lines than calling a tool for it, and
 * needs no folder of device nodes.
 */
import { execFile } from 'node:child_process';
import { readFile } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import type { Kernel } from './kernel.js';

const run = promisify(execFile);
const guestFolder = fileURLToPath(new URL('guest', import.meta.url));

const FOLDER = 0o040755;
const PROGRAM = 0o100755;
const TEXT = 0o100644;

/**
 * The whole archive, ready for `-initrd`.
 *
 * @param settings become shell variables for the guest's scripts (file `/config`).
 */
export async function makeInitramfs(kernel: Kernel, settings: Readonly<Record<string, string>>): Promise<Buffer> {
  const archive = new Archive();
  for (const folder of ['bin', 'dev', 'proc', 'sys', 'host', 'root', 'upper', 'modules']) {
    archive.add(folder, FOLDER, Buffer.alloc(0));
  }
  archive.add('bin/busybox', PROGRAM, await readFile(await findBusybox()));
  archive.add('init', PROGRAM, await readFile(join(guestFolder, 'init')));
  archive.add('driver', TEXT, await readFile(join(guestFolder, 'driver')));
  archive.add('config', TEXT, Buffer.from(shellVariables(settings)));

  // Only the overlay: Debian's cloud kernels have virtio, virtiofs and tmpfs built in.
  const order: string[] = [];
  for (const path of await moduleFiles(kernel, 'overlay')) {
    const name = basename(path).replace(/\.(xz|zst|gz)$/, '');
    archive.add(`modules/${name}`, TEXT, await readModule(path));
    order.push(name);
  }
  archive.add('modules/order', TEXT, Buffer.from(order.join('\n')));
  return archive.finish();
}

/** A string that a POSIX shell reads back as it was. */
export function shellQuote(text: string): string {
  return `'${text.replaceAll("'", "'\\''")}'`;
}

function shellVariables(settings: Readonly<Record<string, string>>): string {
  return Object.entries(settings)
    .map(([name, value]) => `${name}=${shellQuote(value)}\n`)
    .join('');
}

async function findBusybox(): Promise<string> {
  for (const path of ['/bin/busybox', '/usr/bin/busybox']) {
    const program = await readFile(path).catch(() => undefined);
    // A dynamic program names its loader, and the archive has none.
    if (program !== undefined && !program.includes('/ld-linux-')) return path;
  }
  throw new Error('the virtual machine needs a static busybox: apt-get install busybox-static');
}

/** A module and what it depends on, in the order in which to load them. */
async function moduleFiles(kernel: Kernel, name: string): Promise<string[]> {
  const root = kernel.modules.slice(0, kernel.modules.indexOf('/lib/modules/'));
  const { stdout } = await run('modprobe', ['-d', root, '-S', kernel.release, '--show-depends', name]);
  return stdout.split('\n').flatMap((line) => /^insmod (\S+)/.exec(line)?.[1] ?? []);
}

async function readModule(path: string): Promise<Buffer> {
  const decoder = path.endsWith('.xz') ? 'xz' : path.endsWith('.zst') ? 'zstd' : path.endsWith('.gz') ? 'gzip' : '';
  if (decoder === '') return readFile(path);
  const { stdout } = await run(decoder, ['-dc', path], { encoding: 'buffer', maxBuffer: 1 << 28 });
  return stdout;
}

/** Collects members; each is a header of 110 ASCII characters, the name, the content, all padded to 4 bytes. */
class Archive {
  private readonly parts: Buffer[] = [];
  private inode = 0;

  add(name: string, mode: number, content: Buffer): void {
    this.inode++;
    const fields = [this.inode, mode, 0, 0, 1, 0, content.length, 0, 0, 0, 0, name.length + 1, 0];
    const header = `070701${fields.map((field) => field.toString(16).padStart(8, '0')).join('')}`;
    this.push(Buffer.from(`${header}${name}\0`));
    this.push(content);
  }

  finish(): Buffer {
    this.add('TRAILER!!!', 0, Buffer.alloc(0));
    return Buffer.concat(this.parts);
  }

  private push(part: Buffer): void {
    this.parts.push(part, Buffer.alloc(-part.length & 3));
  }
}
