#!/bin/bash
# Entrypoint of the lab's Spark image. It takes the arguments and variables with which Spark's Kubernetes backend starts
# containers: "driver ARGUMENTS..." and "executor". Anything else is run as it is. SPARK_SUBMIT_OPTS, which spark-submit gives to
# drivers, names the archive of Spark's classes; it holds for this class path only.
set -e
case "$1" in
driver)
  shift
  set -- "$SPARK_HOME/bin/spark-submit" --conf "spark.driver.bindAddress=$SPARK_DRIVER_BIND_ADDRESS" --deploy-mode client "$@"
  ;;
executor)
  options=()
  while read -r name; do options+=("${!name}"); done < <(compgen -A variable SPARK_JAVA_OPT_ | sort -t_ -k4n)
  set -- "$JAVA_HOME/bin/java" $SPARK_SUBMIT_OPTS "${options[@]}" "-Xms$SPARK_EXECUTOR_MEMORY" "-Xmx$SPARK_EXECUTOR_MEMORY" \
    -cp "$(<"$SPARK_HOME/classpath")" \
    org.apache.spark.scheduler.cluster.k8s.KubernetesExecutorBackend \
    --driver-url "$SPARK_DRIVER_URL" --executor-id "$SPARK_EXECUTOR_ID" --cores "$SPARK_EXECUTOR_CORES" \
    --app-id "$SPARK_APPLICATION_ID" --hostname "$SPARK_EXECUTOR_POD_IP" \
    --resourceProfileId "$SPARK_RESOURCE_PROFILE_ID" --podName "$SPARK_EXECUTOR_POD_NAME"
  ;;
esac
exec /usr/bin/tini -s -- "$@"
