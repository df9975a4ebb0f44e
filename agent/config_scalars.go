package agent

import (
	"fmt"
	"math"
	"reflect"
	"strconv"
	"strings"
	"time"
)

// setScalar parses text by the type of v.
func setScalar(v reflect.Value, text string) error {
	switch target := v.Addr().Interface().(type) {
	case *string:
		*target = text
	case *bool:
		b, err := strconv.ParseBool(text)
		if err != nil {
			return fmt.Errorf("%q is neither true nor false", text)
		}
		*target = b
	case *int:
		i, err := strconv.Atoi(text)
		if err != nil {
			return fmt.Errorf("%q is not a whole number", text)
		}
		*target = i
	case *time.Duration:
		d, err := time.ParseDuration(text)
		if err != nil {
			return fmt.Errorf("%q is not a duration; write a number with a unit, such as 500ms, 10s or 2m", text)
		}
		*target = d
	case *Share:
		share, err := parseShare(text)
		if err != nil {
			return err
		}
		*target = share
	case *Size:
		size, err := parseSize(text)
		if err != nil {
			return err
		}
		*target = size
	default:
		return fmt.Errorf("cannot be set (type %s)", v.Type())
	}
	return nil
}

func parseShare(text string) (Share, error) {
	number, percent := strings.CutSuffix(text, "%")
	f, err := strconv.ParseFloat(number, 64)
	if err != nil || math.IsNaN(f) || math.IsInf(f, 0) {
		return 0, fmt.Errorf("%q is not a share; write 0.1 or 10%%", text)
	}
	if percent {
		f /= 100
	}
	return Share(f), nil
}

func parseSize(text string) (Size, error) {
	for i, unit := range []string{"KiB", "MiB", "GiB"} {
		if number, ok := strings.CutSuffix(text, unit); ok {
			n, err := strconv.ParseInt(strings.TrimSpace(number), 10, 64)
			if err != nil || n < 0 || n > math.MaxInt64>>(10*(i+1)) {
				break
			}
			return Size(n << (10 * (i + 1))), nil
		}
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil || n < 0 {
		return 0, fmt.Errorf("%q is not a size; write bytes, or a number with KiB, MiB or GiB", text)
	}
	return Size(n), nil
}
