# Reports each host of a playbook's run on a line of its own, and prints what people want to read between them, indented, so
# that nothing a host says can be taken for a report.
import json
import sys

from ansible.plugins.callback import CallbackBase

DOCUMENTATION = """
    name: spoolgate
    type: stdout
    short_description: a line for each host
    description: a line for each host and task, one JSON text behind a mark
"""


class CallbackModule(CallbackBase):
    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "stdout"
    CALLBACK_NAME = "spoolgate"

    def _report(self, host, state, detail):
        text = json.dumps({"target": host, "state": state, "detail": str(detail)[:500]})
        sys.stdout.write("spoolgate-host " + text + "\n")
        sys.stdout.flush()

    def _say(self, text):
        for line in str(text).splitlines():
            sys.stdout.write("  " + line + "\n")
        sys.stdout.flush()

    def _ended(self, result, state):
        host = result._host.get_name()
        task = result._task.get_name()
        found = result._result
        said = [str(found[key]).rstrip() for key in ("msg", "stdout", "stderr", "module_stderr") if found.get(key)]
        if found.get("_ansible_no_log"):
            said = ["(no_log)"]
        self._say("%s: %s: %s" % (host, task, state))
        for text in said:
            self._say("\n".join("  " + line for line in text.splitlines()))
        return host, task, said

    def v2_playbook_on_play_start(self, play):
        self._say("play %s" % play.get_name())

    def v2_runner_on_start(self, host, task):
        self._report(host.get_name(), "running", task.get_name())

    def v2_runner_on_ok(self, result):
        self._ended(result, "changed" if result._result.get("changed") else "ok")

    def v2_runner_on_skipped(self, result):
        self._ended(result, "skipped")

    def v2_runner_on_failed(self, result, ignore_errors=False):
        host, task, said = self._ended(result, "ignored" if ignore_errors else "failed")
        if not ignore_errors:
            self._report(host, "failed", "%s: %s" % (task, said[0] if said else "failed"))
            self._failed[host] = "%s: %s" % (task, said[0] if said else "failed")

    def v2_runner_on_unreachable(self, result):
        host, task, said = self._ended(result, "unreachable")
        self._failed[host] = said[0] if said else "unreachable"
        self._report(host, "unreachable", self._failed[host])

    def v2_playbook_on_stats(self, stats):
        for host in sorted(stats.processed):
            counts = stats.summarize(host)
            if counts["unreachable"]:
                state = "unreachable"
            elif counts["failures"]:
                state = "failed"
            else:
                state = "changed" if counts["changed"] else "ok"
            self._report(host, state, self._failed.get(host, "") if state in ("failed", "unreachable") else "")

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self._failed = {}
