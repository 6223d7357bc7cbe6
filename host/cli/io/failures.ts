/** How a command says that it cannot be carried out. */

/** A command that fails says so here; what it printed before stays. */
export class CommandFailure extends Error {
  /**
   * @param where the line goes to standard output, to standard error, or there with the program's name in front
   */
  constructor(
    message: string,
    readonly where: 'output' | 'error' | 'complaint' = 'output',
  ) {
    super(message);
  }
}

/** The words do not fit: the line with the command's arguments is printed. */
export class UsageFailure extends Error {}
