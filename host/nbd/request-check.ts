/** Which requests are tried, and which are refused before they reach the export. */
import { RequestError } from './error-value.js';
import type { Agreement } from './negotiation.js';
import { Command, CommandFlag, ErrorValue, MAXIMUM_PAYLOAD } from './protocol.js';
import type { RequestHeader } from './transmission-messages.js';

/** The flags that each command may have, on every connection. */
const ALLOWED_FLAGS: ReadonlyMap<number, number> = new Map([
  [Command.Read, CommandFlag.Fua],
  [Command.Write, CommandFlag.Fua],
  [Command.WriteZeroes, CommandFlag.Fua | CommandFlag.NoHole | CommandFlag.FastZero],
  [Command.Trim, CommandFlag.Fua],
  [Command.Flush, CommandFlag.Fua],
  [Command.Cache, CommandFlag.Fua],
  [Command.BlockStatus, CommandFlag.Fua | CommandFlag.ReqOne],
]);

/** What changes the export. */
const WRITES: readonly number[] = [Command.Write, Command.WriteZeroes, Command.Trim];
/** What moves data over the wire, or into it. */
const WITH_DATA: readonly number[] = [Command.Read, Command.Write];

/** Bytes of data that follow a request, whatever becomes of it. */
export function payloadLength({ command, flags, length }: RequestHeader, { format }: Agreement): number {
  const isAnnounced = format === 'extended' && (flags & CommandFlag.PayloadLen) !== 0;
  return command === Command.Write || isAnnounced ? length : 0;
}

/** Why a request is not even tried; undefined when it is. */
export function refusalOf(request: RequestHeader, agreement: Agreement): RequestError | undefined {
  const { command, flags, offset, length } = request;
  const { exported, size, format, contexts } = agreement;
  const isWrite = WRITES.includes(command);
  if (exported.readOnly && isWrite) {
    return new RequestError(ErrorValue.Perm, 'the export is read-only');
  }
  const allowedFlags = ALLOWED_FLAGS.get(command);
  if (allowedFlags === undefined) {
    return new RequestError(ErrorValue.Inval, `this server does not know command ${command}`);
  }
  if ((flags & ~(allowedFlags | agreedFlags(command, agreement))) !== 0) {
    return new RequestError(ErrorValue.Inval, `flags 0x${flags.toString(16)} do not go with command ${command}`);
  }
  if (command === Command.Flush && (offset !== 0 || length !== 0)) {
    return new RequestError(ErrorValue.Inval, 'a flush has neither offset nor length');
  }
  if (command === Command.BlockStatus && (contexts.length === 0 || length === 0)) {
    const reason = length === 0 ? 'there is nothing to tell of no bytes' : 'no metadata context was agreed on';
    return new RequestError(ErrorValue.Inval, reason);
  }
  if (length > MAXIMUM_PAYLOAD && WITH_DATA.includes(command)) {
    const value = command === Command.Read && format !== 'simple' ? ErrorValue.Overflow : ErrorValue.Inval;
    return new RequestError(value, `${length} bytes are more than the ${MAXIMUM_PAYLOAD} that one request may have`);
  }
  if (offset > size - length) {
    const value = isWrite ? ErrorValue.Nospc : ErrorValue.Inval;
    return new RequestError(value, `the range reaches beyond the export's ${size} bytes`);
  }
  if ((flags & CommandFlag.FastZero) !== 0 && !exported.zeroesFast) {
    return new RequestError(ErrorValue.Notsup, 'zeroes are not faster than data here');
  }
  return undefined;
}

/** The flags that only some connections know. */
function agreedFlags(command: number, { format }: Agreement): number {
  if (command === Command.Read && format !== 'simple') return CommandFlag.Df;
  if (command === Command.Write && format === 'extended') return CommandFlag.PayloadLen;
  return 0;
}
