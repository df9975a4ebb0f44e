package watchdog

import "strconv"

// fmt costs 0.3 MB of resident memory; these are the conversions that are needed.

func itoa[N ~int | ~int32 | ~int64 | ~uint32](n N) string { return strconv.FormatInt(int64(n), 10) }

func quote(s string) string { return strconv.Quote(s) }

// number reads a decimal number; ok is false for anything else.
func number(s string) (n int, ok bool) {
	n, err := strconv.Atoi(s)
	return n, err == nil
}
