return text(clock(ARGV[1]))
