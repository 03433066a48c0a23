"""Makes ``twistd celcombiller`` known to Twisted."""

from twisted.application.service import ServiceMaker

celcombiller = ServiceMaker(
    "CELCOMBiller", "celcombiller.service", "Prepaid biller for Asterisk and OpenBTS", "celcombiller"
)
