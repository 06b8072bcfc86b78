package report

import (
	"fmt"
	"strings"
)

// advice is what a person should do next, most urgent first.
func (r *Report) advice() []string {
	var lines []string
	if r.Interrupted {
		lines = append(lines, "Start the agent again on this node before it goes: it takes this rescue up where it stopped.")
	}
	_, _, lost := r.Total()
	if lost.Outputs > 0 && !r.DryRun {
		lines = append(lines, r.price(lost))
	}
	lines = append(lines, r.remedies()...)
	if stored := r.TotalStored(); stored.Outputs > 0 && !r.DryRun {
		lines = append(lines, fmt.Sprintf("%d outputs wait in object storage, where their application does not look for them: they count once an agent "+
			"has given them to an executor. With spark.storage.decommission.fallbackStorage.path set to that place they count at once.", stored.Outputs))
	}
	if n := r.rddBlocksLost(); n > 0 {
		lines = append(lines, fmt.Sprintf("%d cached RDD blocks are lost and will be computed again: set spark.decommission.enabled, "+
			"spark.storage.decommission.enabled and spark.storage.decommission.rddBlocks.enabled to have Spark move them.", n))
	}
	if len(r.Skipped) > 0 {
		lines = append(lines, "Look at the skipped files: they were neither read further nor sent.")
	}
	if r.SecondsLeft < 0 {
		lines = append(lines, "The deadline was missed: raise deadline.margin, so that executors are ended in time.")
	}
	return lines
}

// price says what the losses cost.
func (r *Report) price(lost Amount) string {
	known, seconds, told := false, 0.0, false
	for _, a := range r.Applications {
		known = known || a.Recompute.Known
		seconds += a.Recompute.Incurred
		for _, e := range a.Executors {
			told = told || e.Told
		}
	}
	text := fmt.Sprintf("Spark computes what is lost (%d outputs) again when it needs it", lost.Outputs)
	if known {
		text += ": at least " + Seconds(seconds) + " of task time"
	}
	if !told {
		text += ". No driver was told, so the jobs are no worse off than without Lifeboat"
	}
	return text + "."
}

// remedies lists each one once, in the order of the applications' losses.
func (r *Report) remedies() []string {
	var lines []string
	done := map[string]bool{}
	for _, a := range r.Applications {
		for _, l := range a.Losses {
			word, _, _ := strings.Cut(l.Reason, ":")
			if text := remedy(word); text != "" && !done[word] {
				done[word] = true
				lines = append(lines, text)
			}
		}
	}
	return lines
}

// remedy says what would have helped against a reason of loss (the words of migrate.Reason); empty if nothing would.
func remedy(reason string) string {
	switch reason {
	case "deadline":
		return "The time was too short for all outputs: raise migrate.connections or migrate.inFlight, have more peers or object storage beside them, or lower deadline.margin."
	case "no destination":
		return "No peer took the outputs: keep executors of the same application on other nodes, with free disk (spark.storage.decommission.shuffleBlocks.maxDiskSize also bounds what they take), or give the application object storage (spark.storage.decommission.fallbackStorage.path)."
	case "attempts":
		return "Copies failed again and again: look at the peers' logs and the network between the nodes."
	case "corrupt":
		return "Files changed or could not be read after they were found: look at this node's disk."
	}
	return ""
}

func (r *Report) rddBlocksLost() int {
	n := 0
	for _, a := range r.Applications {
		for _, e := range a.Executors {
			n += max(e.RDDBlocksLost, 0)
		}
	}
	return n
}
