#!/bin/bash
# Process 1 of a node, in namespaces of its own. It gives the machine's folders that a node writes to another content, then runs
# containerd, the kubelet and the driver of disks until it is killed, and everything in its process namespace with it.
set -euo pipefail
mount --make-rprivate /
mount -t proc proc /proc
mount --bind "$NODE/boot_id" /proc/sys/kernel/random/boot_id
mkdir -p "$NODE"/{var,var-work,kubelet,containerd,mnt}
mount -t overlay -o "lowerdir=/var,upperdir=$NODE/var,workdir=$NODE/var-work" var /var
mount -t tmpfs tmpfs /run
mkdir -p /run/containerd /run/lock /var/lib/kubelet /var/lib/containerd
mount --bind "$NODE/kubelet" /var/lib/kubelet
mount --bind "$NODE/containerd" /var/lib/containerd
mount --bind "$NODE/mnt" /mnt
mount --make-rshared /
hostname "$NAME"
ip link delete cni0 2>/dev/null || true # of an earlier boot

forever() { # NAME PROGRAM ARGUMENTS...
  local name=$1
  shift
  while true; do
    "$@" >>"$NODE/$name.log" 2>&1 || true
    echo "$(date) $name ended" >>"$NODE/init.log"
    sleep 1
  done
}
forever containerd containerd -c "$NODE/containerd.toml" &
forever kubelet "$KUBELET" --config="$NODE/kubelet.yaml" --kubeconfig="$NODE/kubeconfig" --hostname-override="$NAME" \
  --node-ip="$ADDRESS" --root-dir=/var/lib/kubelet --node-labels="$LABELS" -v=2 &
forever disks "$CSI" node --node "$NAME" --disks "$DISKS" &
wait
