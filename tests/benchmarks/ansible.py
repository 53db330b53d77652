"""The product against Ansible: 12 tasks `raw` with 50 forks, less than any playbook for this procedure would need.

Ansible gets an environment of its own, made at the first use; without a package registry the measurement is left out.
"""

import os
import resource
import subprocess
import sys
import time
from pathlib import Path

from lab.control.remote import LabProcess
from tests.benchmarks.bars import Values
from tests.benchmarks.installation import installation, whole_cluster
from tests.benchmarks.jobs import checked

__all__ = ["against_ansible"]

TASKS, FORKS = 12, 50
PACKAGES = ("ansible-core", "pywinrm[credssp]")


def against_ansible(nodes: int) -> Values:
    """The playbook on a lab, then the product on the same."""
    program = _program()
    if isinstance(program, str):
        return {"ansible.wall": program, "ansible.cpu": program}
    with installation(nodes) as ready:
        wall, used = _played(program, ready.lab, ready.folder)
        job = checked(ready.job(whole_cluster(ready.lab)))
    return {
        "ansible.wall": job.seconds / wall,
        "ansible.cpu": job.worker_cpu / used,
        "ansible.their.wall": wall,
        "ansible.their.cpu": 1000 * used / nodes,
        "ansible.our.wall": job.seconds,
    }


def _program() -> Path | str:
    """`ansible-playbook` in its environment, which is made if it is missing; or why there is none."""
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "esync-bench", "ansible")
    program = folder / "bin" / "ansible-playbook"
    if not program.exists():
        try:
            _quiet(sys.executable, "-m", "venv", str(folder))
            _quiet(str(folder / "bin" / "pip"), "install", "--quiet", *PACKAGES)
        except subprocess.CalledProcessError as error:
            return f"no Ansible: {error.stderr.strip()[-200:]}"
    return program


def _quiet(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True, text=True)


def _played(program: Path, lab: LabProcess, folder: Path) -> tuple[float, float]:
    """Wall and CPU seconds of the playbook."""
    playbook = folder / "playbook.yaml"
    tasks = "".join("    - raw: hostname\n" for _ in range(TASKS))
    playbook.write_text(f"- hosts: all\n  gather_facts: false\n  tasks:\n{tasks}")
    inventory = folder / "inventory.yaml"
    inventory.touch(0o600)
    inventory.write_text(_inventory(lab))
    environment = {"PATH": f"{program.parent}:{os.environ['PATH']}", "HOME": str(folder), "LANG": "C.UTF-8"}
    command = [str(program), "--forks", str(FORKS), "--inventory", str(inventory), str(playbook)]
    used, started = _children(), time.perf_counter()
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"ansible-playbook failed: {(done.stdout + done.stderr)[-2000:]}")
    return time.perf_counter() - started, _children() - used


def _children() -> float:
    """CPU seconds of the ended processes that this one started."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _inventory(lab: LabProcess) -> str:
    shared = {
        "ansible_connection": "winrm",
        "ansible_winrm_transport": "ntlm",
        "ansible_winrm_scheme": "https",
        "ansible_port": "5986",
        "ansible_user": whole_cluster(lab).connection.user,
        "ansible_password": f"'{lab.password}'",
        "ansible_winrm_ca_trust_path": str(lab.ca_file),
    }
    hosts = "".join(f"    {name}: {{ansible_host: {node['address']}}}\n" for name, node in lab.nodes.items())
    return f"all:\n  hosts:\n{hosts}  vars:\n" + "".join(f"    {name}: {value}\n" for name, value in shared.items())
