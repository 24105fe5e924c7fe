#!/usr/bin/env bash
# Installs the emulator and the webhook into the cluster of KUBECONFIG, by kustomizations that it writes. OWN_CLUSTER=true: the
# cluster is the project's own, of CLUSTER_DIR, and gets the images too. The nodes of another cluster get them by the command
# LOAD_IMAGES, which it runs with each archive, or have them already.
set -euo pipefail
cd "$(dirname "$0")/../.."
. test/steps.sh

dir=$PWD/dist/install
direct=true
if ${OWN_CLUSTER:-false}; then
  dir=${CLUSTER_DIR:-$PWD/.cluster}/install
  direct=false
fi
if ${OWN_CLUSTER:-false} || [[ -n ${LOAD_IMAGES:-} ]]; then
  step "Build the images and load them into the node"
  architecture=$(kubectl get nodes -o 'jsonpath={.items[0].status.nodeInfo.architecture}')
  go run -C deploy ./images --platforms "linux/$architecture" --out dist/cluster-images
  test/install/images.sh dist/cluster-images
  archives=("$PWD"/dist/cluster-images/*.tar)
  if ${OWN_CLUSTER:-false}; then
    go run -C test/cluster ./cmd/cluster load "${archives[@]}"
  else
    for archive in "${archives[@]}"; do $LOAD_IMAGES "$archive"; done
  fi
else
  step "Use the images that the nodes have (make images and test/install/images.sh write them to dist/images; LOAD_IMAGES loads them)"
fi

step "Install an emulator of Alibaba Cloud's STS and KMS, and the webhook"
issuer=$(kubectl get --raw /.well-known/openid-configuration | sed -n 's/.*"issuer": *"\([^"]*\)".*/\1/p')
go run ./test/install -dir "$dir" -issuer "$issuer" -direct="$direct"
show kubectl apply -k "${dir#"$PWD"/}/emulator"
applied=$(show kubectl apply -k "${dir#"$PWD"/}/webhook")
echo "$applied"
if [[ $applied == *"configmap/kms-webhook configured"* ]]; then
  # Running replicas would use the earlier configuration for a minute, and so would a new one on the node of a running one, because the
  # kubelet caches the ConfigMap.
  show kubectl -n kms-agent-injector scale deployment/kms-webhook --replicas=0
  show kubectl -n kms-agent-injector wait --for=delete pod -l app.kubernetes.io/component=webhook --timeout=2m
  show kubectl -n kms-agent-injector scale deployment/kms-webhook --replicas=2
fi
show kubectl -n kms-emulator rollout status deployment/kms-emulator --timeout=5m
show kubectl -n kms-agent-injector rollout status deployment/kms-webhook --timeout=5m
