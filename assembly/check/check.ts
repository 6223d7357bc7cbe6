import { Field, Structure } from "../abi/failure";
import { Status } from "../abi/status";
import { refuse } from "../base/refuse";
import { Image } from "../image/image";
import { Task } from "../image/task";

export function stepCheck(image: Image, task: Task): Status {
  return refuse(image.failure, Status.Unsupported, Structure.Request, Field.Kind, 0, task.kind, 0);
}
