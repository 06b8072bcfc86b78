#!/bin/sh
# Writes golden object streams with a Spark distribution's own classes (JDK 17 or later):
#   golden.sh 4.3.0-2.13 /path/to/spark/jars
set -eu
here=$(cd "$(dirname "$0")" && pwd)
java -cp "$2/*" "$here/Generate.java" "$here/../$1"
