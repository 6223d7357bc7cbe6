/** `corral doctor`: what this host can do, and how to mend what it cannot. */

import { OUTPUT } from '../common-options.js';
import { examineAddon } from '../doctor/addon.js';
import { type Finding, mayAttach } from '../doctor/finding.js';
import { examineFolder } from '../doctor/folder.js';
import { type HostView, thisHost } from '../doctor/host-view.js';
import { examineLimits } from '../doctor/limits.js';
import { examineRing } from '../doctor/ring.js';
import { examineUblk } from '../doctor/ublk.js';
import { escapeText, formatJson, type Json, UsageError } from '../output.js';
import { defineVerb } from '../verb.js';

export const doctor = defineVerb({
  about:
    'Tells what this host can do, and how to mend what it cannot. The exit status is 0 when images can be attached as block\n' +
    'devices, else 1. With a folder also what its file system can do, tried with a small file.',
  operands: '[FOLDER]',
  options: OUTPUT,
  async run({ values, operands }, context) {
    const [folder, ...more] = operands;
    if (more.length > 0) throw new UsageError('Expecting one folder');
    const host = thisHost();
    const findings = await examine(host);
    const attach = mayAttach(findings);
    if (folder !== undefined) findings.push(...(await examineFolder(folder)));
    context.terminal.print(
      values.output === 'json'
        ? `${formatJson(jsonReport(host, findings, attach))}\n`
        : humanReport(host, findings, attach),
    );
    if (!attach) context.exitCode = 1;
  },
});

/** Everything but a folder. */
export async function examine(host: HostView): Promise<Finding[]> {
  return [examineAddon(host), ...examineRing(host), ...(await examineUblk(host)), ...examineLimits(host)];
}

function jsonReport(host: HostView, findings: readonly Finding[], attach: boolean): Json {
  const { corralVersion, nodeVersion, platform, release, arch } = host;
  return {
    corral: corralVersion,
    node: nodeVersion,
    platform,
    kernel: release,
    arch,
    attach,
    findings: findings.map(({ id, status, about, found, fix }) => ({ id, status, about, found, fix })),
  };
}

function humanReport(host: HostView, findings: readonly Finding[], attach: boolean): string {
  const width = Math.max(...findings.map(({ about }) => about.length));
  const lines = findings.flatMap(({ status, about, found, fix }) => [
    `${status.padEnd(8)} ${about.padEnd(width)}  ${escapeText(found)}`,
    ...(fix === undefined ? [] : [`${' '.repeat(width + 9)}  to mend it: ${escapeText(fix)}`]),
  ]);
  const system = `${host.platform === 'linux' ? 'Linux' : host.platform} ${host.release} (${host.arch})`;
  return (
    `Corral ${host.corralVersion}, Node ${host.nodeVersion}, ${system}\n\n${lines.join('\n')}\n\n` +
    `Images ${attach ? 'can' : 'cannot'} be attached as block devices.\n`
  );
}
