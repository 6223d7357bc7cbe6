/**
 * Instances of the core that begin anew instead of being made anew: most of the time of an inspection of a small image went
 * into memories that the system maps, clears and unmaps. The module has no variables, so that an instance is what its
 * memory is: the first page as it was in the beginning, and zeros.
 *
 * A memory stays as long as it has become, so what a fresh one would trap at its end may go unnoticed in such an instance;
 * whoever counts on that makes some inspections without.
 */

const FreshInstance = WebAssembly.Instance;
const PAGE = 65536;

/** A function of the host, as an instance calls it. */
type HostFunction = (...values: unknown[]) => unknown;
type Imports = Record<string, Record<string, unknown>>;

class Reused {
  private readonly instance: WebAssembly.Instance;
  private readonly firstPage: Uint8Array;
  private imports: Imports;

  constructor(module: WebAssembly.Module, imports: Imports) {
    this.imports = imports;
    const through = WebAssembly.Module.imports(module).map(({ module: from, name }): [string, string] => [from, name]);
    const relayed: Record<string, Record<string, HostFunction>> = {};
    for (const [from, name] of through) {
      relayed[from] ??= {};
      relayed[from][name] = (...values) => this.functionOf(from, name)(...values);
    }
    this.instance = new FreshInstance(module, relayed);
    this.firstPage = this.bytes().slice(0, PAGE);
  }

  /** As it was in the beginning, but for the length of its memory; it calls these functions from here on. */
  begin(imports: Imports): WebAssembly.Instance {
    this.imports = imports;
    const bytes = this.bytes();
    bytes.set(this.firstPage);
    bytes.fill(0, PAGE);
    return this.instance;
  }

  private functionOf(from: string, name: string): HostFunction {
    return this.imports[from]?.[name] as HostFunction;
  }

  private bytes(): Uint8Array {
    return new Uint8Array((this.instance.exports.memory as WebAssembly.Memory).buffer);
  }
}

/** Instances of one module, of which those that nobody uses any more are taken again. */
export class InstancePool {
  private readonly all: Reused[] = [];
  private used = 0;

  constructor(private readonly module: WebAssembly.Module) {}

  /** Until `release`, every new instance of the module is one of the pool's. */
  lend(): void {
    const take = (module: WebAssembly.Module, imports: Imports): WebAssembly.Instance => this.take(module, imports);
    // What a constructor returns is what `new` gives.
    WebAssembly.Instance = class {
      constructor(module: WebAssembly.Module, imports: Imports) {
        // biome-ignore lint/correctness/noConstructorReturn: the loader asks for an instance by `new`
        return take(module, imports);
      }
    } as unknown as typeof WebAssembly.Instance;
  }

  /** All that were lent are free: nothing may use them any more. */
  release(): void {
    WebAssembly.Instance = FreshInstance;
    this.used = 0;
  }

  private take(module: WebAssembly.Module, imports: Imports): WebAssembly.Instance {
    if (module !== this.module) return new FreshInstance(module, imports as WebAssembly.Imports);
    const free = this.all[this.used++];
    if (free !== undefined) return free.begin(imports);
    const made = new Reused(module, imports);
    this.all.push(made);
    return made.begin(imports);
  }
}
