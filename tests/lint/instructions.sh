#!/usr/bin/env bash
# The program runs on every x86-64: only the variants that are chosen at run time may hold
# instructions that not all of them have.
#
#   tests/lint/instructions.sh FILE...      programs' objects and archives; 77: cannot be looked at
#
# x86-64 is SSE2. Everything newer that a compiler makes of C by itself has a name beginning with v
# (AVX and later) or is in the list (SSE3 to SSE4.2, BMI, and what came with them).
set -euo pipefail
[ "$(uname -m)" = x86_64 ] && command -v objdump > /dev/null || exit 77

objdump -d --no-show-raw-insn "$@" | awk '
  BEGIN {
    n = split("pshufb phaddw phaddd pmaddubsw pmulhrsw pabsb pabsw pabsd palignr psignb psignw psignd " \
              "pmulld pminsb pminsd pminud pminuw pmaxsb pmaxsd pmaxud pmaxuw roundss roundsd roundps " \
              "roundpd ptest pextrb pextrd pextrq pinsrb pinsrd pinsrq insertps extractps blendps " \
              "blendpd blendvps blendvpd pblendw pblendvb pcmpeqq pcmpgtq packusdw pmovsxbw pmovsxbd " \
              "pmovsxbq pmovsxwd pmovsxwq pmovsxdq pmovzxbw pmovzxbd pmovzxbq pmovzxwd pmovzxwq " \
              "pmovzxdq pmuldq haddps haddpd hsubps addsubps addsubpd movddup movshdup movsldup lddqu " \
              "dpps dppd mpsadbw crc32 popcnt lzcnt andn bextr blsi blsr blsmsk bzhi mulx pdep " \
              "pext rorx sarx shlx shrx adcx adox movbe pclmulqdq aesenc", names, " ")
    for (i = 1; i <= n; i++) is_new[names[i]] = 1
  }
  /file format/ { file = $1; is_variant = file ~ /variant_avx/; if (is_variant) n_variants++; n_files++ }
  /^[0-9a-f]+ <.*>:$/ { at = $2 }
  /^ +[0-9a-f]+:\t/ {
    name = $2
    n_instructions++
    # verr and verw are old
    is_found = name in is_new || (name ~ /^v/ && name !~ /^ver[rw]$/) || /%[yz]mm|%k[0-7]/
    if (is_found && is_variant) n_new++
    if (is_found && !is_variant && n_wrong++ < 20) print file, at, $0
  }
  END {
    printf "%d files, %d instructions; %d in %d variants are newer than SSE2, %d elsewhere\n",
           n_files, n_instructions, n_new, n_variants, n_wrong
    exit n_wrong > 0 || n_instructions < 1000 || (n_variants > 0 && n_new == 0)
  }'
