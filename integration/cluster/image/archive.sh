#!/bin/bash
# Writes the archive of the classes that Spark loads, as its image has them: JVMs then start in a fraction of the time. Beside it, the
# class path for which it holds: that of spark-submit. It runs in a mount namespace of its own, in the folder WORK, and lays the image
# out there from the folders BASE, JAVA, SPARK and the file JOB.
set -euo pipefail
mount --make-rprivate /
cd "$WORK"
mkdir -p upper/{proc,tmp,etc,dev,opt/java,opt/job,opt/spark/{conf,jars}} overlay root
mount -t overlay -o "lowerdir=$BASE/root,upperdir=upper,workdir=overlay" base root
mount -t proc proc root/proc
touch root/dev/null
mount --bind /dev/null root/dev/null
mount --bind "$JAVA" root/opt/java
mount --bind "$SPARK/jars" root/opt/spark/jars
cp "$JOB" root/opt/job/job.jar
echo 127.0.0.1 localhost >root/etc/hosts
echo root:x:0:0::/tmp:/bin/sh >root/etc/passwd
opens=()
for package in java.{lang,lang.invoke,lang.reflect,io,net,nio,util,util.concurrent,util.concurrent.atomic} \
  sun.{nio.ch,nio.cs,security.action,util.calendar}; do
  opens+=("--add-opens=java.base/$package=ALL-UNNAMED") # as Spark's launcher does (JavaModuleOptions)
done
read -ra options <<<"$OPTIONS"
java() { SPARK_HOME=/opt/spark SPARK_SCALA_VERSION=any SPARK_LOCAL_IP=127.0.0.1 chroot root /opt/java/jre/bin/java "$@"; }
java -cp '/opt/spark/jars/*' org.apache.spark.launcher.Main org.apache.spark.deploy.SparkSubmit x | tr '\0' '\n' | sed -n '/^-cp$/{n;p}' >classpath
java "${options[@]}" "${opens[@]}" -Xmx512m -XX:ArchiveClassesAtExit=/tmp/spark.jsa \
  -cp "$(cat classpath)" org.apache.spark.deploy.SparkSubmit --master 'local[2]' --class ShuffleJob \
  --conf spark.ui.enabled=false local:///opt/job/job.jar 2 2 1 0 once
mv root/tmp/spark.jsa "$WORK/spark.jsa"
