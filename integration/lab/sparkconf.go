package lab

// SparkConf are the settings of an application whose fallback storage lies below a prefix of this storage. Its JVMs need
// Options.S3A.
func (v *Storage) SparkConf(prefix string) map[string]string {
	return map[string]string{
		"spark.storage.decommission.fallbackStorage.path": "s3a://" + v.Bucket + "/" + prefix + "/",
		"spark.hadoop.fs.s3a.endpoint":                    v.Endpoint,
		"spark.hadoop.fs.s3a.endpoint.region":             "us-east-1",
		"spark.hadoop.fs.s3a.path.style.access":           "true",
		"spark.hadoop.fs.s3a.access.key":                  v.Key,
		"spark.hadoop.fs.s3a.secret.key":                  v.Secret,
		"spark.hadoop.fs.s3a.aws.credentials.provider":    "org.apache.hadoop.fs.s3a.SimpleAWSCredentialsProvider",
		"spark.hadoop.fs.s3a.directory.marker.retention":  "keep", // the server refuses to remove those of folders that are not empty
	}
}
