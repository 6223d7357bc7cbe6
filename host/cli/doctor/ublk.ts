/** The ublk driver: the module, its control device, and what it can do. */

import { CorralError } from '../../errors.js';
import { isSystemError } from '../../node/addon.js';
import { featureNames, UblkFeature } from '../../node/ublk-features.js';
import { reasonOf } from '../output.js';
import { NEEDS_ADDON } from './addon.js';
import type { Finding } from './finding.js';
import type { HostView } from './host-view.js';

const MODULE = { id: 'ublk-module', about: 'ublk driver' };
const CONTROL = { id: 'ublk-control', about: '/dev/ublk-control' };
const FEATURES = { id: 'ublk-features', about: 'ublk features' };

const USERS = { id: 'ublk-users', about: 'devices of users' };

const CONTROL_DEVICE = '/dev/ublk-control';
/** Where udev looks for rules, the first of which hides others of the same name; and ours. */
const RULE_FOLDERS = ['/etc/udev/rules.d', '/run/udev/rules.d', '/usr/lib/udev/rules.d', '/lib/udev/rules.d'];
const RULES = '60-corral-ublk.rules';

/** Four findings: the module, its control device, the driver's features, and whether they are for root only. */
export async function examineUblk(host: HostView): Promise<Finding[]> {
  const driver = examineModule(host);
  if (driver.status !== 'ok') {
    const needs = { status: 'unknown', found: 'needs the driver' } as const;
    return [driver, { ...CONTROL, ...needs }, { ...FEATURES, ...needs }, { ...USERS, ...needs }];
  }
  return [driver, ...(await examineControl(host))];
}

function examineModule(host: HostView): Finding {
  if (host.platform !== 'linux') return { ...MODULE, status: 'missing', found: 'there is one in Linux only' };
  if (host.exists('/sys/module/ublk_drv') || host.exists(CONTROL_DEVICE)) {
    return { ...MODULE, status: 'ok', found: 'loaded' };
  }
  const folder = `/lib/modules/${host.release}`;
  if (host.readText(`${folder}/modules.dep`)?.includes('/ublk_drv.ko')) {
    return {
      ...MODULE,
      status: 'missing',
      found: 'there, but not loaded',
      fix: 'as root: modprobe ublk_drv, and at each start: echo ublk_drv > /etc/modules-load.d/ublk.conf',
    };
  }
  return {
    ...MODULE,
    status: 'missing',
    found: `Linux ${host.release} has none`,
    fix: 'a kernel with CONFIG_BLK_DEV_UBLK, 6.5 or newer; until then corral serve offers images over NBD',
  };
}

/** The control device is opened by the question for the driver's features. */
async function examineControl(host: HostView): Promise<Finding[]> {
  try {
    const features = await host.addon().ublk.getFeatures();
    const control: Finding = { ...CONTROL, status: 'ok', found: 'answers' };
    const found = featureNames(features).join(', ') || 'none';
    const users = examineUsers(host, features);
    if ((features & UblkFeature.CommandIoctlEncode) !== 0)
      return [control, { ...FEATURES, status: 'ok', found }, users];
    return [control, { ...FEATURES, status: 'missing', found, fix: 'Linux 6.5 or newer' }, users];
  } catch (error) {
    return [...unanswered(host, error), { ...USERS, status: 'unknown', found: 'needs /dev/ublk-control' }];
  }
}

/** Whether somebody who is not root may have devices. Nothing is missing where not. */
function examineUsers(host: HostView, features: number): Finding {
  if ((features & UblkFeature.Unprivileged) === 0)
    return { ...USERS, status: 'ok', found: 'none: the driver has them for root only' };
  const rules = RULE_FOLDERS.map((folder) => `${folder}/${RULES}`).find((path) => host.exists(path));
  if (rules !== undefined) return { ...USERS, status: 'ok', found: `those whom ${rules} lets` };
  return { ...USERS, status: 'ok', found: `none: no rules give them their devices (${RULES}, of host/node/systemd)` };
}

function unanswered(host: HostView, error: unknown): [control: Finding, features: Finding] {
  if (error instanceof CorralError) {
    const unknown = { status: 'unknown', found: NEEDS_ADDON } as const;
    return [
      { ...CONTROL, ...unknown },
      { ...FEATURES, ...unknown },
    ];
  }
  if (!isSystemError(error)) throw error;
  const features: Finding = { ...FEATURES, status: 'unknown', found: 'needs /dev/ublk-control' };
  if (error.operation === 'io_uring_setup') {
    return [{ ...CONTROL, status: 'unknown', found: 'needs io_uring' }, features];
  }
  if (['EACCES', 'EPERM'].includes(error.code)) {
    const fix =
      host.userId === 0
        ? 'a container must be allowed to use the device'
        : `run it as root, or have root install ${RULES}, of host/node/systemd`;
    return [{ ...CONTROL, status: 'missing', found: 'not permitted', fix }, features];
  }
  if (error.operation.startsWith('open')) {
    const fix = 'the module makes it; in a container, hand the device in: --device /dev/ublk-control';
    return [{ ...CONTROL, status: 'missing', found: reasonOf(error), fix }, features];
  }
  return [
    { ...CONTROL, status: 'ok', found: 'can be opened' },
    { ...FEATURES, status: 'missing', found: 'the driver is too old to tell', fix: 'Linux 6.5 or newer' },
  ];
}
