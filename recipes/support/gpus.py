"""Which GPUs there are: also `python -m recipes.support.gpus`, which says how many."""

import os
import shutil
import subprocess


def visible_gpus() -> list[str]:
    """Return the GPUs at hand, as CUDA_VISIBLE_DEVICES names them.

    Where that is not set, they are all that the driver has.
    """
    asked = os.environ.get("CUDA_VISIBLE_DEVICES")
    if asked is not None:
        gpus = []
        for gpu in map(str.strip, asked.split(",")):
            if gpu in ("", "-1", "NoDevFiles"):  # CUDA ignores what follows; so SLURM says none
                break
            gpus.append(gpu)
        return gpus
    if shutil.which("nvidia-smi"):
        listed = subprocess.run(["nvidia-smi", "--list-gpus"], capture_output=True, text=True)
        # Parts of a GPU are listed below it.
        count = sum(line.startswith("GPU ") for line in listed.stdout.splitlines())
    else:  # a container may have GPUs without it
        import torch  # late: it takes seconds

        count = torch.cuda.device_count()
    return [str(number) for number in range(count)]


if __name__ == "__main__":
    print(len(visible_gpus()))
