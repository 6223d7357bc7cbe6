/** Every export of the module, and nothing else. The one piece of static data is the context pointer. */

import { Configuration, Layout } from './abi/configuration';
import { Status } from './abi/status';
import { ABI_HASH } from './abi-hash';
import { configureImage } from './image/configure';
import { Image } from './image/image';
import { cancelRequest, completeOperation, refreshStatistics, submitRequest } from './scheduler';

const CONFIGURATION: usize = memory.data(64, 8);
const LAYOUT: usize = memory.data(64, 8);
const CONTEXT: usize = memory.data(8, 8);

function context(): Image {
  return load<Image>(CONTEXT);
}

/** Hash of the records in abi/; the host compares it with its own before anything else. */
export function abiHash(): u32 {
  return ABI_HASH;
}

/** Address of the Configuration record, to be filled before `configure`. */
export function configuration(): usize {
  return CONFIGURATION;
}

/** Takes all the memory there will ever be. Address of the Layout record; 0 when the configuration cannot be had. */
export function configure(): usize {
  const image = configureImage(changetype<Configuration>(CONFIGURATION), changetype<Layout>(LAYOUT));
  if (image === null) return 0;
  store<Image>(CONTEXT, image);
  return LAYOUT;
}

/** Takes the request in slot `slot`; the answer is the import `block.finish`. */
export function submit(slot: u32): Status {
  return submitRequest(context(), slot);
}

/** The host's answer to operation `operation`. */
export function complete(operation: u32, status: Status): Status {
  return completeOperation(context(), operation, status);
}

/** Asks the request in slot `slot` to end soon. */
export function cancel(slot: u32): Status {
  return cancelRequest(context(), slot);
}

/** Brings the Statistics record up to date. */
export function statistics(): void {
  refreshStatistics(context());
}
