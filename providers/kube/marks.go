package kube

// What a rescue writes on objects beside OwnMark.
const (
	// LastRescue is the annotation of a driver's pod and of a node with the id of the last rescue's report.
	LastRescue = Domain + "last-rescue"

	// ClaimExecutor and ClaimState are labels of a persistent volume claim at an executor's local dirs: which executor wrote it,
	// and whether all that it wrote is whole (StateComplete) or maybe not (StatePartial).
	ClaimExecutor = Domain + "executor"
	ClaimState    = Domain + "state"
	StateComplete = "complete"
	StatePartial  = "partial"

	// ClaimOutputs is an annotation with the executor's map outputs, as "0:0-11,14;3:1": shuffle, colon, map ids.
	ClaimOutputs = Domain + "outputs"
	// ClaimMarkedBy, ClaimMarkedAt and ClaimReport are annotations: the node, the time (RFC 3339) and the report's id.
	ClaimMarkedBy = Domain + "marked-by"
	ClaimMarkedAt = Domain + "marked-at"
	ClaimReport   = Domain + "report"
	// HiddenSelector is the annotation that holds the value of Spark's label while a claim is hidden from Spark.
	HiddenSelector = Domain + "hidden-selector"

	// LabelApp is Spark's label of an application's objects (org.apache.spark.deploy.k8s.Constants.SPARK_APP_ID_LABEL).
	LabelApp = labelApp
)
