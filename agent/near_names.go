package agent

import "slices"

// nearName is a hint when a name is at most two edits away from one that is known, else "".
func nearName(name string, known []string) string {
	return hintOf(NearName(name, known))
}

// NearName is the known name at most two edits away; of two equally near ones the first in order. A name of three letters
// or less is near only at one edit: two would match almost anything.
func NearName(name string, known []string) string {
	best, distance := "", 3
	if len(name) <= 3 {
		distance = 2
	}
	for _, k := range slices.Sorted(slices.Values(known)) {
		if d := editDistance(name, k); d < distance {
			best, distance = k, d
		}
	}
	return best
}

func hintOf(near string) string {
	if near == "" {
		return ""
	}
	return "; did you mean \"" + near + "\"?"
}
