"""Runs commands one after the other on every host with asyncssh; its last line is how many hosts did all of them."""
import asyncio
import sys

import asyncssh

port, key, known_hosts, at_once, addresses, *commands = sys.argv[1:]


async def work(gate, options, host):
    async with gate, asyncssh.connect(host, int(port), options=options) as connection:
        for command in commands:
            if (await connection.run(command)).exit_status != 0:
                return False
        return True


async def main():
    gate = asyncio.Semaphore(int(at_once))
    options = asyncssh.SSHClientConnectionOptions(
        username="root", client_keys=[asyncssh.read_private_key(key)], known_hosts=asyncssh.read_known_hosts(known_hosts),
        config=None, agent_path=None)
    with open(addresses) as file:
        work_all = [work(gate, options, host) for host in file.read().split()]
    print(sum(result is True for result in await asyncio.gather(*work_all, return_exceptions=True)))


asyncio.run(main())
