#!/usr/bin/env bash
# A real Slurm on this computer for tests/slurm: a controller and several nodes, each a slurmd of its
# own, with pretended GPUs. For Debian and root, on computers that have no Slurm of their own.
#
#   scripts/start_slurm.sh [start|stop|reset|node NAME|controller|munge]
#     start       install what is missing, start what does not run, wait until the nodes are idle
#     stop        cancel all jobs, end what start has started
#     reset       stop, forget all jobs, start
#     node NAME   start the slurmd of one node again; controller, munge: these
#   SLURM_TEST_NODES (3), SLURM_TEST_GPUS (2), SLURM_TEST_CPUS (4) and SLURM_TEST_MEM (4000, MB) say
#   what there is of each; CPUs and memory are claims only. A job's own memory limit is kept: by control
#   groups (version 1) where these can be used, else by looking every 2 s.
#   A job in the partition "urgent" pushes those of others aside: out of "cheap" for good, out of "cpu"
#   and "gpu" back into the queue.
set -euo pipefail

nodes=${SLURM_TEST_NODES:-3} gpus=${SLURM_TEST_GPUS:-2}
cpus=${SLURM_TEST_CPUS:-4} memory=${SLURM_TEST_MEM:-4000}
groups=/sys/fs/cgroup/memory
etc=/etc/slurm state=/var/lib/slurm-test log=/var/log/slurm-test run=/run/slurm-test
mark='# Made by scripts/start_slurm.sh for tests.'

complain() { echo "start_slurm: $*" >&2; exit 1; }

runs() { # runs PIDFILE PROGRAM: that process is there and is that program
    local pid
    pid=$(cat "$1" 2>/dev/null) && [ "$(cat "/proc/$pid/comm" 2>/dev/null)" = "$2" ]
}

finish() { # finish PIDFILE PROGRAM
    local pid tries
    if runs "$1" "$2"; then
        pid=$(cat "$1")
        kill -TERM "$pid" 2>/dev/null || true
        for tries in $(seq 100); do
            runs "$1" "$2" || break
            [ "$tries" -lt 100 ] || kill -KILL "$pid"
            sleep 0.1
        done
    fi
    rm -f "$1"
}

await() { # await SECONDS WHAT COMMAND...
    local end=$((SECONDS + $1)) what=$2
    shift 2
    until "$@" >/dev/null 2>&1; do
        if [ $SECONDS -ge $end ]; then
            tail -n 15 "$log"/*.log >&2 2>/dev/null || true
            complain "waited in vain for $what"
        fi
        sleep 0.2
    done
}

# What a daemon inherits, its jobs see: nothing of this shell's.
daemon() { env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin LANG=C.UTF-8 "$@" </dev/null >>"$log/start.log" 2>&1; }

answers() { scontrol ping 2>/dev/null | grep -q 'is UP'; }
all_nodes_up() { [ "$(sinfo -h -N -t idle,mixed,allocated,completing -o %N | sort -u | wc -l)" -eq "$nodes" ]; }
control_groups() {
    [ -d $groups ] && mkdir -p $groups/slurm_test 2>/dev/null || return 1
    local usable=0
    [ -w $groups/slurm_test/memory.limit_in_bytes ] || usable=1
    rmdir $groups/slurm_test
    return $usable
}
credential() { munge -n | unmunge; }

install_packages() {
    local package missing=()
    for package in munge slurmctld slurmd slurm-client; do
        dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing+=("$package")
    done
    [ ${#missing[@]} -gt 0 ] || return 0
    export DEBIAN_FRONTEND=noninteractive
    # Packages want to start their services; here is nothing that starts services.
    apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null 2>&1 ||
        { apt-get update -qq && apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null; } ||
        complain "could not install ${missing[*]}"
}

configure() {
    if [ -s $etc/slurm.conf ] && ! grep -qF "$mark" $etc/slurm.conf; then
        complain "this computer belongs to a cluster: $etc/slurm.conf is not ours"
    fi
    local gpu host task=task/none over=OverMemoryKill
    host=$(hostname -s)
    install -d -m 755 $etc
    install -d -m 755 -o slurm -g slurm $state $state/controller $log $run
    install -d -m 755 $state/gpu
    # CUDA_VISIBLE_DEVICES is set only for character devices with a number at the end.
    for ((gpu = 0; gpu < gpus; gpu++)); do
        [ -c $state/gpu/fake$gpu ] || mknod -m 666 $state/gpu/fake$gpu c 1 3
    done
    cat >$etc/gres.conf <<CONF
$mark
NodeName=n[1-$nodes] Name=gpu File=$state/gpu/fake[0-$((gpus - 1))]
CONF
    if control_groups; then
        task=task/cgroup over=
        printf '%s\n' "$mark" "CgroupMountpoint=${groups%/*}" CgroupPlugin=cgroup/v1 ConstrainRAMSpace=yes \
            >$etc/cgroup.conf
    else
        rm -f $etc/cgroup.conf
    fi
    # cred_expire: a requeued job waits so long (120 s by default, 5 at least) before it may start again.
    # ReturnToService: a node that answers again is used again.
    cat >$etc/slurm.conf <<CONF
$mark
ClusterName=test
SlurmctldHost=$host(127.0.0.1)
SlurmUser=slurm
AuthType=auth/munge
AuthInfo=cred_expire=5
CommunicationParameters=NoCtldInAddrAny,NoInAddrAny
SlurmctldPidFile=$run/controller.pid
SlurmdPidFile=$run/%n.pid
SlurmctldLogFile=$log/controller.log
SlurmdLogFile=$log/%n.log
StateSaveLocation=$state/controller
SlurmdSpoolDir=$state/%n
ProctrackType=proctrack/linuxproc
TaskPlugin=$task
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=2
${over:+JobAcctGatherParams=$over}
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SlurmdParameters=config_overrides
SchedulerParameters=batch_sched_delay=0,sched_interval=1,sched_min_interval=0,bf_interval=2
PropagateResourceLimits=NONE
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
ReturnToService=2
MailProg=/bin/true
KillWait=5
SlurmdTimeout=30
GresTypes=gpu
NodeName=n[1-$nodes] NodeHostname=$host NodeAddr=127.0.0.1 Port=[17101-$((17100 + nodes))] CPUs=$cpus RealMemory=$memory Gres=gpu:$gpus
PartitionName=cpu Nodes=ALL Default=YES MaxTime=INFINITE DefMemPerCPU=$((memory / cpus)) State=UP
PartitionName=gpu Nodes=ALL MaxTime=INFINITE DefMemPerCPU=$((memory / cpus)) State=UP
PartitionName=cheap Nodes=ALL MaxTime=INFINITE DefMemPerCPU=$((memory / cpus)) PreemptMode=CANCEL State=UP
PartitionName=urgent Nodes=ALL MaxTime=INFINITE DefMemPerCPU=$((memory / cpus)) PriorityTier=10 PreemptMode=OFF State=UP
CONF
}

start_node() {
    install -d -m 755 "$state/$1"
    runs "$run/$1.pid" slurmd || daemon slurmd -N "$1"
}

start_controller() {
    runs $run/controller.pid slurmctld || daemon slurmctld
    await 20 "the controller" answers
}

start_munge() {
    if ! runs /run/munge/munged.pid munged; then
        [ -s /etc/munge/munge.key ] || { (umask 077; head -c 1024 /dev/urandom >/etc/munge/munge.key); chown munge: /etc/munge/munge.key; }
        install -d -m 755 -o munge -g munge /run/munge
        daemon runuser -u munge -- /usr/sbin/munged
    fi
    await 10 "a munge credential" credential
}

start() {
    local node
    start_munge
    start_controller
    for ((node = 1; node <= nodes; node++)); do start_node "n$node"; done
    await 30 "$nodes nodes" all_nodes_up
}

stop() {
    local file
    if answers; then
        squeue -h -o %A | sort -u | xargs -r scancel 2>/dev/null || true
        for _ in $(seq 50); do [ -n "$(squeue -h)" ] || break; sleep 0.2; done
    fi
    for file in $run/n*.pid; do finish "$file" slurmd; done
    finish $run/controller.pid slurmctld
    finish /run/munge/munged.pid munged
    [ ! -d $groups ] || find $groups -depth -path "$groups/slurm_n[0-9]*" -type d -exec rmdir {} + 2>/dev/null || true
}

[ "$(id -u)" -eq 0 ] || complain "must run as root"
command -v dpkg-query >/dev/null || complain "needs Debian's packages"
case ${1:-start} in
    start) install_packages; configure; start ;;
    stop) stop ;;
    reset) stop; rm -rf $state/controller $state/n* $log; install_packages; configure; start ;;
    node) start_node "$2" ;;
    controller) start_controller ;;
    munge) start_munge ;;
    *) sed -n '2,15s/^# \{0,1\}//p' "$0" >&2; exit 2 ;;
esac
