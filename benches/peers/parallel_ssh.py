"""Runs commands one after the other on every host with parallel-ssh; its last line is how many hosts did all of them."""
import sys

from pssh.clients import ParallelSSHClient

port, key, at_once, addresses, *commands = sys.argv[1:]
hosts = open(addresses).read().split()
client = ParallelSSHClient(
    hosts, user="root", port=int(port), pkey=key, pool_size=int(at_once),
    allow_agent=False, identity_auth=False)
good = set(range(len(hosts)))
for command in commands:
    answers = client.run_command(command, stop_on_errors=False)
    client.join(answers)
    good -= {n for n, answer in enumerate(answers) if answer.exit_code != 0}
print(len(good))
