"""Counts words, as scripts do: it prints, leaves descriptors open, changes directory and ends by sys.exit."""

import collections
import os
import sys

if len(sys.argv) != 2:
    sys.exit(2)
text = open(sys.argv[1])
os.chdir("/")
for word, count in collections.Counter(text.read().split()).most_common(3):
    print(count, word)
sys.exit(0)
