# Sourced by the demo and the end-to-end suite's runner: a cluster with the emulator and the webhook in it.
# Without KUBECONFIG it is the project's own; with it, the user's, whose nodes must have the images of `make images` already.

# cluster_up: leaves KUBECONFIG and PATH so that kubectl works.
cluster_up() {
  if [[ -n ${KUBECONFIG:-} ]]; then
    OWN_CLUSTER=false
    step "Use the cluster of KUBECONFIG=$KUBECONFIG"
    command -v kubectl >/dev/null || fail "KUBECONFIG is set, but there is no kubectl in PATH"
  else
    OWN_CLUSTER=true
    step "Start a Kubernetes of our own, built from source (the first time takes minutes)"
    go run ./test/cluster/cmd/cluster up
    eval "$(go run ./test/cluster/cmd/cluster env)"
  fi
  show kubectl get nodes
}

# install_all: images, emulator, webhook.
install_all() {
  local dir=$CLUSTER_DIR/install direct=false
  step "Build the images and load them into the node"
  if $OWN_CLUSTER; then
    go run ./deploy/images --platforms "linux/$(go env GOARCH)" --out "$CLUSTER_DIR/images" kms-webhook kms-agent kms-emulator demo-app
    go run ./test/cluster/cmd/cluster load "$CLUSTER_DIR"/images/*.tar
  else
    echo "Skipped: the nodes of your cluster must have them (make images; demo-app: go run ./deploy/images demo-app)."
    direct=true
  fi

  step "Install an emulator of Alibaba Cloud's STS and KMS, and the webhook"
  local issuer
  issuer=$(kubectl get --raw /.well-known/openid-configuration | sed -n 's/.*"issuer":"\([^"]*\)".*/\1/p')
  go run ./test/install -dir "$dir" -issuer "$issuer" -direct="$direct"
  show kubectl apply -k "${dir#"$PWD"/}/emulator"
  show kubectl apply -k "${dir#"$PWD"/}/webhook"
  show kubectl -n kms-emulator rollout status deployment/kms-emulator --timeout=120s
  show kubectl -n kms-agent-injector rollout status deployment/kms-webhook --timeout=120s
}
