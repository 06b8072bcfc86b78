#!/bin/bash
# The preStop hook that Spark gives executors: it decommissions the executor and stays until that has ended.
for folder in /proc/[0-9]*; do
  if [ "$(cat "$folder/comm" 2>/dev/null)" = java ]; then
    kill -s PWR "${folder#/proc/}"
    while [ -d "$folder" ]; do sleep 0.2; done
  fi
done
