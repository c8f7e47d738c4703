#!/usr/bin/env bash
# Start a private single-host Slurm "cluster" on loopback, for `make test-hpc`. Idempotent. Debian, as root.
#
#   start_slurm.sh [start]     install packages if missing, write conf, start daemons
#   start_slurm.sh stop        stop the daemons this script started (by pid file)
#   start_slurm.sh status      sinfo + pids
#   start_slurm.sh kill-node N   SIGKILL slurmd of node N and every job step under it
#   start_slurm.sh start-node N  bring that node back
#
# Environment:  SLURMLAB_DIR (default slurmlab in the temporary folder)   SLURMLAB_NODES (2)
#               SLURMLAB_CPUS (2 per node)             SLURMLAB_MEM  (8000 MB per node)
#               SLURMLAB_GPUS (1 per node, fake)       SLURMLAB_DBD  (0; 1 = slurmdbd+MariaDB, gives sacct)
#
# After start:  export SLURM_CONF=$SLURMLAB_DIR/etc/slurm.conf
#               (munge socket is private too; its path is in slurm.conf via AuthInfo)
set -euo pipefail

D=${SLURMLAB_DIR:-${TMPDIR:-/tmp}/slurmlab}
N=${SLURMLAB_NODES:-2}
CPUS=${SLURMLAB_CPUS:-2}
MEM=${SLURMLAB_MEM:-8000}
GPUS=${SLURMLAB_GPUS:-1}
DBD=${SLURMLAB_DBD:-0}
HOST=$(hostname -s)
CTLD_PORT=${SLURMLAB_PORT:-26817}         # slurmctld; slurmds follow at +1..+N; slurmdbd at +50; MariaDB at socket only
CMD=${1:-start}
export SLURM_CONF=$D/etc/slurm.conf

log() { printf '[slurmlab] %s\n' "$*" >&2; }
alive() { [ -s "$1" ] && kill -0 "$(cat "$1")" 2>/dev/null; }
wait_for() { # wait_for SECONDS DESCRIPTION CMD...
  local t=$1 what=$2; shift 2
  local end=$((SECONDS + t))
  until "$@" >/dev/null 2>&1; do
    [ $SECONDS -ge $end ] && { log "timeout waiting for $what"; return 1; }
    sleep 0.2
  done
}
stop_pid() { alive "$1" || { rm -f "$1"; return 0; }; local p; p=$(cat "$1"); kill "$p" 2>/dev/null || true
  for _ in $(seq 50); do kill -0 "$p" 2>/dev/null || break; sleep 0.1; done
  kill -9 "$p" 2>/dev/null || true; rm -f "$1"; }

install_pkgs() {
  local need=()
  command -v munged    >/dev/null || need+=(munge)
  command -v slurmctld >/dev/null || need+=(slurmctld)
  command -v slurmd    >/dev/null || need+=(slurmd)
  command -v sbatch    >/dev/null || need+=(slurm-client)
  if [ "$DBD" = 1 ]; then
    command -v slurmdbd >/dev/null || need+=(slurmdbd)
    command -v mariadbd >/dev/null || need+=(mariadb-server)
  fi
  [ ${#need[@]} -eq 0 ] && return 0
  log "apt-get install ${need[*]}"
  apt-get update -qq || true
  # policy-rc.d 101 => packages must not start system-wide daemons
  local prc=/usr/sbin/policy-rc.d made=0
  [ -e $prc ] || { printf '#!/bin/sh\nexit 101\n' > $prc; chmod +x $prc; made=1; }
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${need[@]}" >/dev/null
  [ $made = 1 ] && rm -f $prc || true
}

write_conf() {
  mkdir -p "$D"/{etc,log,run,spool/ctld,munge}
  chmod 700 "$D/munge"; chmod 755 "$D" "$D"/{etc,log,run,spool}
  [ -s "$D/munge/munge.key" ] || dd if=/dev/urandom of="$D/munge/munge.key" bs=128 count=1 status=none
  chmod 400 "$D/munge/munge.key"
  local sock=$D/run/munge.socket gres_types='' node_gres=''
  if [ "$GPUS" -gt 0 ]; then gres_types="GresTypes=gpu"; node_gres="Gres=gpu:fake:$GPUS"; fi
  {
    cat <<CONF
ClusterName=slurmlab
SlurmctldHost=$HOST(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket=$sock
CommunicationParameters=NoInAddrAny,NoCtldInAddrAny
SlurmctldPort=$CTLD_PORT
SlurmctldPidFile=$D/run/slurmctld.pid
SlurmdPidFile=$D/run/slurmd.%n.pid
StateSaveLocation=$D/spool/ctld
SlurmdSpoolDir=$D/spool/%n
SlurmctldLogFile=$D/log/slurmctld.log
SlurmdLogFile=$D/log/slurmd.%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=task=2
JobAcctGatherParams=OverMemoryKill
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SchedulerType=sched/backfill
SchedulerParameters=bf_interval=2,sched_interval=2,batch_sched_delay=0,sched_min_interval=0
PriorityType=priority/basic
ReturnToService=2
MinJobAge=600
KillWait=5
SlurmdTimeout=15
SlurmctldTimeout=10
InactiveLimit=0
MessageTimeout=10
JobRequeue=1
SlurmdParameters=config_overrides
DefMemPerCPU=500
$gres_types
CONF
    if [ "$DBD" = 1 ]; then
      printf '%s\n' "AccountingStorageType=accounting_storage/slurmdbd" \
        "AccountingStorageHost=127.0.0.1" "AccountingStoragePort=$((CTLD_PORT + 50))" \
        "AccountingStorageTRES=gres/gpu" "AccountingStoreFlags=job_comment" "AccountingStoragePass=$sock"  # "Pass" = munge socket; no AccountingStorageEnforce: jobs need no account
    else
      printf '%s\n' "AccountingStorageType=accounting_storage/none"
    fi
    for i in $(seq "$N"); do
      echo "NodeName=n$i NodeHostname=$HOST NodeAddr=127.0.0.1 Port=$((CTLD_PORT + i)) CPUs=$CPUS RealMemory=$MEM State=UNKNOWN $node_gres"
    done
    echo "PartitionName=cpu Nodes=n[1-$N] Default=YES MaxTime=INFINITE State=UP"
    [ "$GPUS" -gt 0 ] && echo "PartitionName=gpu Nodes=n[1-$N] Default=NO MaxTime=INFINITE State=UP"
    :
  } > "$D/etc/slurm.conf.new"
  {
    if [ "$GPUS" -gt 0 ]; then
      for g in $(seq 0 $((GPUS - 1))); do
        ln -sf /dev/null "$D/run/fakegpu$g"   # must be a char device; a link to /dev/null will do (no cgroup constraint)
        echo "NodeName=n[1-$N] Name=gpu Type=fake File=$D/run/fakegpu$g"
      done
    fi
  } > "$D/etc/gres.conf"
  mv "$D/etc/slurm.conf.new" "$D/etc/slurm.conf"
  # snakemake-executor-plugin-slurm-jobstep (0.6.1) drops SLURM_CONF from the environment of its inner srun, so the
  # conf must also be found at Slurm's built-in place.  Link it there unless a real one exists.
  mkdir -p /etc/slurm
  for f in slurm.conf gres.conf; do
    { [ -L "/etc/slurm/$f" ] || [ ! -e "/etc/slurm/$f" ]; } && ln -sfn "$D/etc/$f" "/etc/slurm/$f" || log "left /etc/slurm/$f as it is"
  done
  if [ "$DBD" = 1 ]; then
    cat > "$D/etc/slurmdbd.conf" <<CONF
AuthType=auth/munge
AuthInfo=socket=$sock
DbdHost=$HOST
DbdAddr=127.0.0.1
DbdPort=$((CTLD_PORT + 50))
SlurmUser=root
LogFile=$D/log/slurmdbd.log
PidFile=$D/run/slurmdbd.pid
StorageType=accounting_storage/mysql
StorageHost=localhost
StorageUser=slurm
StoragePass=slurmlab
StorageLoc=slurm_acct_db
CONF
    chmod 600 "$D/etc/slurmdbd.conf"; ln -sfn "$D/etc/slurmdbd.conf" /etc/slurm/slurmdbd.conf
  fi
}

start_munge() {
  alive "$D/run/munged.pid" && return 0
  rm -f "$D/run/munge.socket"*
  munged --force --key-file="$D/munge/munge.key" --socket="$D/run/munge.socket" \
         --pid-file="$D/run/munged.pid" --log-file="$D/log/munged.log" --seed-file="$D/munge/seed" >/dev/null 2>&1
  wait_for 5 munged munge -S "$D/run/munge.socket" -n
}

start_dbd() {
  [ "$DBD" = 1 ] || return 0
  local my=$D/mysql
  if ! alive "$D/run/mariadbd.pid"; then
    mkdir -p "$my"; chown mysql "$my"
    [ -d "$my/mysql" ] || mariadb-install-db --no-defaults --user=mysql --datadir="$my" --skip-test-db >/dev/null 2>&1
    # StorageHost=localhost => client library uses the default socket, so point it there
    mkdir -p /run/mysqld; chown mysql /run/mysqld
    setsid mariadbd --no-defaults --user=mysql --datadir="$my" --skip-networking \
      --socket=/run/mysqld/mysqld.sock --pid-file="$my/mariadbd.pid" \
      --innodb-buffer-pool-size=64M --innodb-log-file-size=32M --innodb-lock-wait-timeout=900 \
      </dev/null >"$D/log/mariadbd.log" 2>&1 &
    echo $! > "$D/run/mariadbd.pid"
    wait_for 30 mariadbd mariadb-admin --no-defaults --socket=/run/mysqld/mysqld.sock ping
    mariadb --no-defaults --socket=/run/mysqld/mysqld.sock -e \
      "CREATE USER IF NOT EXISTS 'slurm'@'localhost' IDENTIFIED BY 'slurmlab'; GRANT ALL ON slurm_acct_db.* TO 'slurm'@'localhost';"
  fi
  if ! alive "$D/run/slurmdbd.pid"; then
    rm -f "$D/run/slurmdbd.pid"
    SLURM_CONF=$D/etc/slurm.conf slurmdbd >/dev/null 2>&1
    wait_for 30 slurmdbd sacctmgr -n show cluster
  fi
  sacctmgr -n show cluster format=cluster 2>/dev/null | grep -q slurmlab || sacctmgr -i add cluster slurmlab >/dev/null
  sacctmgr -n show account lab format=account 2>/dev/null | grep -q lab || sacctmgr -i add account lab >/dev/null
  sacctmgr -n show user "$(id -un)" format=user 2>/dev/null | grep -q . || true
  sacctmgr -n show assoc user="$(id -un)" account=lab format=user 2>/dev/null | grep -q . \
    || sacctmgr -i add user "$(id -un)" account=lab >/dev/null
}

start_node() { local n=$1; alive "$D/run/slurmd.$n.pid" && return 0
  mkdir -p "$D/spool/$n"; slurmd -N "$n" -f "$SLURM_CONF" </dev/null >"$D/log/slurmd.$n.out" 2>&1; }

# A hard node failure: slurmd, then its slurmstepds, then the user processes, all with SIGKILL, so that nothing can
# report the job's end to slurmctld.  It finds out by itself after SlurmdTimeout (15 s) and requeues or sets NODE_FAIL.
kill_node() {
  local n=$1 kids=() steps=() p q
  for p in $(grep -lsz "^SLURMD_NODENAME=$n$" /proc/[0-9]*/environ 2>/dev/null | cut -d/ -f3); do
    kids+=("$p"); q=$p
    while q=$(awk '/^PPid:/{print $2}' "/proc/$q/status" 2>/dev/null) && [ -n "$q" ] && [ "$q" -gt 1 ]; do
      [ "$(cat "/proc/$q/comm" 2>/dev/null)" = slurmstepd ] && steps+=("$q")
    done
  done
  kill -9 "$(cat "$D/run/slurmd.$n.pid")" 2>/dev/null || true; rm -f "$D/run/slurmd.$n.pid"
  [ ${#steps[@]} -gt 0 ] && kill -9 "${steps[@]}" 2>/dev/null || true
  [ ${#kids[@]}  -gt 0 ] && kill -9 "${kids[@]}"  2>/dev/null || true
  log "killed $n: steps [${steps[*]:-}] processes [${kids[*]:-}]"
}

case $CMD in
  start)
    install_pkgs
    # a running cluster with the same conf is left as it is
    if alive "$D/run/slurmctld.pid" && scontrol ping 2>/dev/null | grep -q UP; then
      log "already up ($SLURM_CONF)"; for i in $(seq "$N"); do start_node "n$i"; done
    else
      write_conf; start_munge; start_dbd
      slurmctld -i -f "$SLURM_CONF" </dev/null >"$D/log/slurmctld.out" 2>&1
      wait_for 15 slurmctld sh -c 'scontrol ping | grep -q UP'
      for i in $(seq "$N"); do start_node "n$i"; done
    fi
    wait_for 20 "idle nodes" sh -c "[ \$(sinfo -h -N -p cpu -t idle,mix,alloc -o %N | sort -u | wc -l) -ge $N ]" \
      || { for i in $(seq "$N"); do scontrol update nodename="n$i" state=resume 2>/dev/null || true; done
           wait_for 10 "idle nodes" sh -c "[ \$(sinfo -h -N -p cpu -t idle,mix,alloc -o %N | sort -u | wc -l) -ge $N ]"; }
    log "up: export SLURM_CONF=$SLURM_CONF"; sinfo -N -o '%N %P %c %m %G %t' ;;
  stop)
    for i in $(seq 64); do [ -e "$D/run/slurmd.n$i.pid" ] && stop_pid "$D/run/slurmd.n$i.pid"; done
    for p in slurmctld slurmdbd mariadbd munged; do stop_pid "$D/run/$p.pid"; done
    for f in slurm.conf gres.conf slurmdbd.conf; do
      [ "$(readlink "/etc/slurm/$f" 2>/dev/null)" = "$D/etc/$f" ] && rm -f "/etc/slurm/$f"; done; log stopped ;;
  status) sinfo -N -o '%N %P %c %m %G %t' || true; for f in "$D"/run/*.pid; do echo "$(basename "$f") $(cat "$f") $(alive "$f" && echo up || echo down)"; done ;;
  kill-node) kill_node "${2:?node}" ;;
  start-node) start_node "${2:?node}" ;;
  *) echo "usage: $0 start|stop|status|kill-node N|start-node N" >&2; exit 2 ;;
esac
