package kube

import (
	"cmp"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/lifeboat/lifeboat/migrate"
	"github.com/lifeboat/lifeboat/providers/kube"
)

// LocalClaims are the claims that hold the local dirs of an executor: at each dir, the volume that is mounted there or at the
// nearest folder above. A volume further up, which another mount covers, holds nothing of it; one that is mounted anywhere
// else (dependencies, checkpoints, data) is none of ours, whatever it is called. whole says that every local dir lies on one.
func LocalClaims(p kube.Pod) (claims []kube.ClaimMount, whole bool) {
	whole = len(p.LocalDirs) > 0
	for _, dir := range p.LocalDirs {
		mount := nearest(p.Mounts, dir)
		i := slices.IndexFunc(p.Claims, func(m kube.ClaimMount) bool { return path.Clean(m.Path) == mount })
		if mount == "" || i < 0 || p.Claims[i].ReadOnly {
			whole = false
			continue
		}
		if !slices.ContainsFunc(claims, func(m kube.ClaimMount) bool { return m.Path == p.Claims[i].Path }) {
			claims = append(claims, p.Claims[i])
		}
	}
	return claims, whole
}

// nearest is the mount that a folder lies on; "" when that is the container's own file system.
func nearest(mounts []string, dir string) string {
	best, dir := "", path.Clean(dir)
	for _, m := range mounts {
		m = path.Clean(m)
		if (m == dir || strings.HasPrefix(dir, strings.TrimSuffix(m, "/")+"/")) && len(m) > len(best) {
			best = m
		}
	}
	return best
}

// maxOutputs is the most that a claim is told of its outputs, in bytes. All annotations of an object may have 256 KiB.
const maxOutputs = 32 << 10

// FormatOutputs lists map outputs of one application, as "0:0-11,14;3:1". What does not fit is left out, from the end; cut says
// so.
func FormatOutputs(ids []migrate.OutputID) (list string, cut bool) {
	ids = slices.Clone(ids)
	slices.SortFunc(ids, func(a, b migrate.OutputID) int {
		return cmp.Or(cmp.Compare(a.Shuffle, b.Shuffle), cmp.Compare(a.Map, b.Map))
	})
	ids = slices.Compact(ids)
	var b strings.Builder
	for i := 0; i < len(ids); {
		j := i + 1
		for j < len(ids) && ids[j].Shuffle == ids[i].Shuffle && ids[j].Map == ids[j-1].Map+1 {
			j++
		}
		part := strconv.FormatInt(ids[i].Map, 10)
		if j-i > 1 {
			part += "-" + strconv.FormatInt(ids[j-1].Map, 10)
		}
		switch {
		case i == 0:
			part = strconv.Itoa(ids[i].Shuffle) + ":" + part
		case ids[i].Shuffle != ids[i-1].Shuffle:
			part = ";" + strconv.Itoa(ids[i].Shuffle) + ":" + part
		default:
			part = "," + part
		}
		if b.Len()+len(part) > maxOutputs {
			return b.String(), true
		}
		b.WriteString(part)
		i = j
	}
	return b.String(), false
}
