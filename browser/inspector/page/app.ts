/** What every view of the page works with. */

import type { Overview } from '../protocol.js';
import type { Client } from './client.js';
import type { Place } from './location.js';

/** Hears what is done to something that a view shows. */
export interface App {
  readonly client: Client;
  readonly overview: Overview;
  /** What is shown now. */
  readonly place: Place;
  /** Shows something else; what is left out stays as it is. With `replace`, going back leads past it. */
  go(change: Partial<Place>, options?: { replace?: boolean }): void;
  /** The address of that. */
  link(change: Partial<Place>): string;
  /** A sentence for those who do not see the page. */
  announce(text: string): void;
}

/** A part of the page that one address shows. */
export interface View {
  readonly element: HTMLElement;
  /** Another place of the same view. */
  update?(place: Place): void;
}

/** Makes a view; the signal says that it is no longer there. */
export type MakeView = (app: App, gone: AbortSignal) => View;
