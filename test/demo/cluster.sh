#!/usr/bin/env bash
# The whole path, told on the screen; leaves the cluster up.
set -euo pipefail
cd "$(dirname "$0")/../.."
export CLUSTER_DIR=${CLUSTER_DIR:-$PWD/.cluster}
. test/steps.sh

emulator() { show kubectl -n kms-emulator exec deploy/kms-emulator -- /kms-emulator "$@"; }
first=first-$RANDOM$RANDOM second=second-$RANDOM$RANDOM third=third-$RANDOM$RANDOM fourth=fourth-$RANDOM$RANDOM

# What the demo may change or delete on a cluster of the user's has this label; test/install labels what it installs.
label=kms-agent-injector/demo=true

# A KUBECONFIG of the environment is not the demo's: the cluster to use is named for it.
unset KUBECONFIG
if [[ -n ${DEMO_KUBECONFIG:-} ]]; then
  export KUBECONFIG=$DEMO_KUBECONFIG OWN_CLUSTER=false
  installed=dist/install # by test/install
  step "Use the cluster of DEMO_KUBECONFIG=$KUBECONFIG"
  command -v kubectl >/dev/null || fail "DEMO_KUBECONFIG is set, but there is no kubectl in PATH"
  found=$(kubectl get namespaces,mutatingwebhookconfigurations,customresourcedefinitions -l '!kms-agent-injector/demo' -o name)
  foreign=$(grep -x -e namespace/shop -e namespace/kms-emulator -e '[^ ]*/kms-agent-injector' <<<"$found" || true)
  [[ -z $foreign ]] || fail "the cluster has" $foreign "without the label $label, so not of an earlier demo, which this one would replace;" \
    "nothing was changed. Remove it or use another cluster"
  others=$(grep -x -e namespace/kms-sync -e '[^ ]*/externalsecrets.alibabacloud.com' <<<"$found" || true)
else
  export OWN_CLUSTER=true
  installed=${CLUSTER_DIR#"$PWD"/}/install others=""
  step "Start a Kubernetes of our own; the first time it is built from source, which takes minutes"
  go build -C test/cluster -o "$PWD/bin/cluster" ./cmd/cluster
  bin/cluster up
  eval "$(bin/cluster env)"
fi
show kubectl get nodes
CGO_ENABLED=0 go build -trimpath -buildvcs=false -o bin/kubectl-kms ./cmd/kubectl-kms
export PATH=$PWD/bin:$PATH # where kubectl finds its plugin
helm=$(test/tools/run.sh -n helm)
helm() { "$helm" "$@"; }
test/install/install.sh
if [[ -z $others ]] && helm uninstall kms-sync --namespace kms-sync --ignore-not-found --wait >/dev/null; then
  # Of a demo that was stopped; without its controller it would hold up the namespace's deletion.
  kubectl -n shop patch externalsecret license --type=merge -p '{"metadata":{"finalizers":null}}' >/dev/null 2>&1 || true
fi
kubectl delete namespace --field-selector metadata.name=shop -l "$label" >/dev/null
emulator reset >/dev/null

step "Create a secret in KMS"
emulator put-secret shop/prod/db --tag env=prod --value "$first"

step "A namespace opts in; its ServiceAccount gets a RAM role"
show kubectl apply -f test/demo/shop.yaml
show kubectl label namespace shop kms.alibabacloud.com/injection=enabled
show kubectl -n shop annotate serviceaccount web ack.alibabacloud.com/role-arn=acs:ram::1234567890123456:role/shop

step "A plain Deployment with two annotations"
show grep kms.alibabacloud.com test/demo/web.yaml
show kubectl apply -f test/demo/web.yaml
show kubectl -n shop rollout status deployment/web --timeout=5m
show kubectl -n shop get pods
show kubectl -n shop get pods -l app=web -o 'jsonpath={.items[0].spec.initContainers[*].name}' && echo

step "The secret is a file in the container: on a tmpfs, read-only, the application's own"
show kubectl -n shop exec deploy/web -c web -- cat /var/run/kms/secrets/db && echo
show kubectl -n shop exec deploy/web -c web -- grep /var/run/kms /proc/mounts
show kubectl -n shop exec deploy/web -c web -- stat -L -c '%A %u %n' /var/run/kms/secrets/db
[[ $(kubectl -n shop exec deploy/web -c web -- cat /var/run/kms/secrets/db) == "$first" ]] || fail "the file does not hold the secret's value"

step "The secret is rotated in KMS; the file follows"
# Every five minutes is the default; ten seconds are for those who watch.
show kubectl -n shop patch deployment web -p '{"spec":{"template":{"metadata":{"annotations":{"kms.alibabacloud.com/refresh-interval":"10s"}}}}}'
show kubectl -n shop rollout status deployment/web --timeout=5m
emulator rotate shop/prod/db --value "$second"
follows() { [[ $(kubectl -n shop exec deploy/web -c web -- cat /var/run/kms/secrets/db) == "$second" ]]; }
until_ok 300 "the file follows the rotation" follows
show kubectl -n shop exec deploy/web -c web -- cat /var/run/kms/secrets/db && echo

step "Another ServiceAccount may not read it: its init container says why"
show kubectl apply -f test/demo/stranger.yaml
refused() { [[ -n $(kubectl -n shop get pod stranger -o 'jsonpath={.status.initContainerStatuses[0].lastState.terminated.message}{.status.initContainerStatuses[0].state.terminated.message}') ]]; }
until_ok 300 "the stranger's init container ends" refused
show kubectl -n shop get pod stranger -o 'jsonpath={.status.initContainerStatuses[0].lastState.terminated.message}{.status.initContainerStatuses[0].state.terminated.message}' && echo

step "kubectl kms: what pods have, and which link of the chain is broken"
if show kubectl kms status -n shop; then
  fail "status found nothing wrong with a pod that has no files"
fi
if show kubectl kms doctor -n shop stranger; then
  fail "the doctor found nothing wrong with a pod that has no files"
fi
kubectl -n shop delete pod stranger --wait=false >/dev/null

step "A typing error is refused when it is typed"
if show kubectl -n shop patch deployment web -p '{"spec":{"template":{"metadata":{"annotations":{"kms.alibabacloud.com/refresh-intervall":"1m"}}}}}'; then
  fail "a Deployment with an unknown annotation was accepted"
fi

# search WHAT WANTED: counts the lines in which etcd, or for a cluster of the user's every object that the API server shows, has WHAT.
search() {
  local dump found
  if $OWN_CLUSTER; then
    echo "$ bin/cluster etcd | grep -a -c $1"
    dump=(bin/cluster etcd)
  else
    set -- "$1" "$2" -e "$(printf %s "$1" | base64)" # as a Secret would have it
    echo "$ kubectl get secrets,configmaps,pods,events,deployments,replicasets -A -o yaml | grep -c -e $1 $3 $4"
    dump=(kubectl get secrets,configmaps,pods,events,deployments,replicasets -A -o yaml)
  fi
  found=$("${dump[@]}" | { grep -a -c -e "$1" "${@:3}" || true; }) || return
  echo "$found"
  [[ $2 == none && $found == 0 || $2 == some && $found != 0 ]]
}

if [[ -z $others ]]; then
  step "For what reads a Secret and nothing else, kms-sync makes one: its value is in etcd"
  emulator put-secret shop/prod/license --tag env=prod --value "$third"
  failed=false
  # Its rights over Secrets are then Roles in this namespace.
  show helm install kms-sync deploy/chart/kms-sync --namespace kms-sync --create-namespace --hide-notes \
    --set command.watchNamespaces=shop --values "$installed/kms-sync/values.yaml" | grep -e '^\$' -e ^STATUS || failed=true
  kubectl label namespaces --field-selector metadata.name=kms-sync "$label" >/dev/null
  kubectl label clusterroles,clusterrolebindings,validatingadmissionpolicies,validatingadmissionpolicybindings \
    -l app.kubernetes.io/name=kms-sync "$label" >/dev/null
  kubectl label validatingwebhookconfigurations --field-selector metadata.name=kms-sync "$label" >/dev/null
  kubectl label customresourcedefinitions {externalsecrets,secretstores,clustersecretstores}.alibabacloud.com "$label" >/dev/null
  ! $failed || fail "kms-sync is not installed"
  show kubectl -n kms-sync wait --for=condition=Available deployment/kms-sync --timeout=5m
  show kubectl apply -f test/demo/license.yaml
  show kubectl -n shop wait --for=condition=Ready externalsecret/license --timeout=1m
  show kubectl -n shop get externalsecret license
  emulator rotate shop/prod/license --value "$fourth"
  follows() { [[ $(kubectl -n shop get secret license -o 'jsonpath={.data.key}' | base64 -d) == "$fourth" ]]; }
  until_ok 60 "the Secret follows the rotation" follows
  echo "$ kubectl -n shop get secret license -o 'jsonpath={.data.key}' | base64 -d"
  kubectl -n shop get secret license -o 'jsonpath={.data.key}' | base64 -d && echo
  search "$fourth" some || fail "the Secret's value is not in the cluster"
  show kubectl -n shop delete externalsecret license
  if kubectl -n shop get secret license >/dev/null 2>&1; then fail "the Secret outlives its ExternalSecret"; fi
else
  step "kms-sync is left out: the cluster has" $others "without the label $label"
fi

step "What STS and KMS counted"
emulator calls

step "The values of the file are nowhere in etcd; the secret's name, in the annotation, is"
search "$first" none || fail "the first value of the secret is stored in the cluster"
search "$second" none || fail "the second value of the secret is stored in the cluster"
search shop/prod/db some || fail "the search finds nothing at all"

step "Done. The cluster is left running."
if $OWN_CLUSTER; then
  cat <<TEXT
Go on:      eval "\$(bin/cluster env)"    # kubectl and KUBECONFIG for this shell
            bin/kubectl-kms status -n shop
            kubectl -n kms-emulator exec deploy/kms-emulator -- /kms-emulator rotate shop/prod/db --value something-else
Remove it:  make cluster-down
TEXT
else
  removed=namespaces,clusterroles,clusterrolebindings,mutatingwebhookconfigurations,validatingwebhookconfigurations
  removed+=,validatingadmissionpolicies,validatingadmissionpolicybindings,customresourcedefinitions
  cat <<TEXT
Remove it:  kubectl delete -l $label $removed
TEXT
fi
